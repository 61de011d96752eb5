{{- /* Generated from src/cluster/rbac.rs: change it there, then run `make generate`. */ -}}

{{- define "quorate.rules.namespaced" -}}
# read what users say; patch sets and removes the finalizer of whenDeleted: Delete, nothing else
- apiGroups: [quorate.dev]
  resources: [etcdclusters]
  verbs: [get, list, watch, patch]
# report; claim a step by compare-and-swap before a member is disturbed
- apiGroups: [quorate.dev]
  resources: [etcdclusters/status]
  verbs: [update]
# own the cluster's objects with blockOwnerDeletion where OwnerReferencesPermissionEnforcement is on
- apiGroups: [quorate.dev]
  resources: [etcdclusters/finalizers]
  verbs: [update]
# each member is a Pod; patch moves its start-up guard on, and gives labels and annotations in place; delete clears away one that failed or tried an image
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
# stop a member within the disruption budget, as a drain does
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# show why a member did not start; read the version that an image says
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# each member's data; delete only as retentionPolicy says
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# addresses of members and for clients
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# keep drains and the operator from taking a quorum's members at once
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# remember what each member was rendered from, so that it can be put back
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [list, create, delete]
# certificates of clusters that talk TLS, each by its own name; patch makes one anew before its end; delete is for the authority that goes with its cluster's volumes
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
# say what was done and what is refused
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "quorate.rules.clusterWide" -}}
# say so when no StorageClass is the default, instead of leaving volumes pending
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [list]
# show the zone of each member's node in the status, begin nothing while one is cordoned or not ready, and know when one is gone
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list]
# know whether a member's volume can follow it to another node, or the member has to be replaced
- apiGroups: [""]
  resources: [persistentvolumes]
  verbs: [get]
{{- end }}

{{- define "quorate.rules.lease" -}}
# one replica acts, the others stand by
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
{{- end }}
