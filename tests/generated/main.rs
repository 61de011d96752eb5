#[test]
fn x() { println!("{}", serde_saphyr::to_string(&quorate::api::crd(quorate::etcd::versions::OWNED_FLAGS)).unwrap()); }
