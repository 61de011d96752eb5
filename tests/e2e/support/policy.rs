//! Mutating admission policies, as a platform's team writes them.

use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::Duration;

/// A mutating admission policy for one namespace.
pub struct Policy {
    client: Client,
    name: String,
}

impl Policy {
    /// `patch`: a CEL expression that gives the JSON patches of each Pod which is created there.
    pub async fn create(client: &Client, namespace: &str, patch: &str) -> Self {
        let policy = Self { client: client.clone(), name: namespace.to_owned() };
        policy
            .object(
                "MutatingAdmissionPolicy",
                json!({
                    "matchConstraints": { "resourceRules": [{
                        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                    }] },
                    "failurePolicy": "Fail",
                    "reinvocationPolicy": "Never",
                    "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": patch } }],
                }),
            )
            .await;
        policy
            .object(
                "MutatingAdmissionPolicyBinding",
                json!({
                    "policyName": policy.name,
                    "matchResources": { "namespaceSelector": { "matchLabels": {
                        "kubernetes.io/metadata.name": namespace,
                    } } },
                }),
            )
            .await;
        // The API server takes a policy up a moment after it was written.
        tokio::time::sleep(Duration::from_secs(3)).await;
        policy
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1beta1", kind);
        Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind))
    }

    async fn object(&self, kind: &str, spec: serde_json::Value) {
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1beta1", kind));
        let object = DynamicObject::new(&self.name, &resource).data(json!({ "spec": spec }));
        self.api(kind).create(&PostParams::default(), &object).await.unwrap();
    }

    pub async fn delete(self) {
        for kind in ["MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy"] {
            self.api(kind).delete(&self.name, &DeleteParams::default()).await.unwrap();
        }
    }
}
