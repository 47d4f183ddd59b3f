//! Tests of `validate`.

use super::*;

fn fault(metadata: &str, spec: &str) -> String {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec: {spec}\n---\nkind: \
         ConfigMap\napiVersion: v1\nmetadata: {{name: c}}\ndata: {{k: v}}\n"
    );
    match Manifest::parse(&text).and_then(|manifest| validate(&manifest)) {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_sound_pod_passes() {
    let spec = "{containers: [{name: a, image: x, volumeMounts: [{name: v, mountPath: /v}]}], \
                volumes: [{name: v, configMap: {name: c, items: [{key: k, path: d/k}]}}]}";
    assert_eq!(fault("{name: a.b}", spec), "");
    let restricted = "{containers: [{name: a, image: x, securityContext: {privileged: false, \
                      allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, procMount: \
                      Default, seccompProfile: {type: RuntimeDefault}}}], securityContext: \
                      {seccompProfile: {type: RuntimeDefault}}}";
    assert_eq!(fault("{name: a}", restricted), "");
}

#[test]
fn faults_are_named_by_their_place() {
    for (metadata, spec, says) in [
        ("{name: A}", "{containers: [{name: a, image: x}]}", "metadata.name: \"A\""),
        ("{name: a}", "{containers: []}", "spec.containers: a pod needs"),
        ("{name: a}", "{containers: [{name: a}]}", "spec.containers[0]: container a has no image"),
        (
            "{name: a}",
            "{containers: [{name: a, image: x}], initContainers: [{name: a, image: x}]}",
            "the name a is there twice",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x, volumeMounts: [{name: v, mountPath: /}]}]}",
            "spec.containers[0].volumeMounts[0]: there is no volume \"v\"",
        ),
        (
            "{name: a}",
            "{restartPolicy: never, containers: [{name: a, image: x}]}",
            "spec.restartPolicy: \"never\" is none of",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x, resources: {limits: {memory: 12MB}}}]}",
            "spec.containers[0].resources.limits.memory: \"12MB\"",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x}], volumes: [{name: v, secret: {secretName: q}}]}",
            "spec.volumes[0]: Secret \"q\" not found",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x, env: [{name: X, valueFrom: {configMapKeyRef: \
             {name: c, key: z}}}]}]}",
            "spec.containers[0]: couldn't find key z in ConfigMap default/c",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x, volumeMounts: [{name: v, mountPath: /v, subPath: \
             ../x}]}], volumes: [{name: v, emptyDir: {}}]}",
            "spec.containers[0].volumeMounts[0].subPath",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x}], volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]}",
            "spec.volumes[0].emptyDir.sizeLimit is not supported yet without medium: Memory",
        ),
        (
            "{name: a}",
            "{hostNetwork: true, containers: [{name: a, image: x, ports: [{containerPort: 1, \
             hostPort: 2}]}]}",
            "spec.containers[0].ports[0].hostPort: on the host's network port 1 is no other port",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x, ports: [{containerPort: 1, hostPort: 2, protocol: \
             SCTP}]}]}",
            "spec.containers[0].ports[0].hostPort is not supported yet for SCTP",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x, ports: [{containerPort: 1, hostPort: 2}, \
             {containerPort: 3, hostPort: 2}]}]}",
            "spec.containers: the host port 2/tcp is there twice",
        ),
        (
            "{name: a}",
            "{securityContext: {seccompProfile: {type: Localhost}}, containers: [{name: a, \
             image: x}]}",
            "spec.securityContext.seccompProfile.type: Localhost is not supported yet",
        ),
        (
            "{name: a}",
            "{containers: [{name: a, image: x}], initContainers: [{name: i, image: x, \
             lifecycle: {preStop: {sleep: {seconds: 1}}}}]}",
            "spec.initContainers[0].lifecycle",
        ),
    ] {
        let fault = fault(metadata, spec);
        assert!(fault.starts_with(says) || fault.contains(says), "{spec}: {fault}");
    }
}
