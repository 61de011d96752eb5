//! Admission policies, as a platform's team writes them.

use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::time::Duration;

/// An admission policy for one namespace.
pub struct Policy {
    client: Client,
    name: String,
    /// `MutatingAdmissionPolicy` or `ValidatingAdmissionPolicy`, and the version that the API server has it in.
    kind: (&'static str, &'static str),
}

impl Policy {
    /// `patch`: a CEL expression that gives the JSON patches of each Pod which is created there.
    pub async fn create(client: &Client, namespace: &str, patch: &str) -> Self {
        let spec = json!({
            "matchConstraints": on("CREATE", "pods"),
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": patch } }],
        });
        Self::of(("MutatingAdmissionPolicy", "v1beta1"), client, namespace, spec, json!({})).await
    }

    /// `allowed`: a CEL expression; where it is false this operation is refused.
    pub async fn refuse(
        client: &Client,
        namespace: &str,
        operation: &str,
        resource: &str,
        allowed: &str,
    ) -> Self {
        let spec = json!({
            "matchConstraints": on(operation, resource),
            "failurePolicy": "Fail",
            "validations": [{ "expression": allowed, "message": "a policy of the test's says no" }],
        });
        let actions = json!({ "validationActions": ["Deny"] });
        Self::of(("ValidatingAdmissionPolicy", "v1"), client, namespace, spec, actions).await
    }

    async fn of(
        kind: (&'static str, &'static str),
        client: &Client,
        namespace: &str,
        spec: Value,
        more: Value,
    ) -> Self {
        let policy = Self { client: client.clone(), name: namespace.to_owned(), kind };
        let mut binding = json!({
            "policyName": policy.name,
            "matchResources": { "namespaceSelector": { "matchLabels": {
                "kubernetes.io/metadata.name": namespace,
            } } },
        });
        binding.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        policy.object("", spec).await;
        policy.object("Binding", binding).await;
        // The API server takes a policy up a moment after it was written.
        tokio::time::sleep(Duration::from_secs(3)).await;
        policy
    }

    fn resource(&self, suffix: &str) -> ApiResource {
        let (kind, version) = self.kind;
        let kind = format!("{kind}{suffix}");
        ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", version, &kind))
    }

    fn api(&self, suffix: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &self.resource(suffix))
    }

    async fn object(&self, suffix: &str, spec: Value) {
        let object = DynamicObject::new(&self.name, &self.resource(suffix)).data(json!({ "spec": spec }));
        self.api(suffix).create(&PostParams::default(), &object).await.unwrap();
    }

    pub async fn delete(self) {
        for suffix in ["Binding", ""] {
            self.api(suffix).delete(&self.name, &DeleteParams::default()).await.unwrap();
        }
        // And drops it a moment after that.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn on(operation: &str, resource: &str) -> Value {
    json!({ "resourceRules": [{
        "apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": [resource],
    }] })
}
