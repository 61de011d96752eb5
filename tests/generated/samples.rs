//! Every sample of the docs, and the one in the README, is accepted by the schema.

use super::schema::{errors, schema};
use serde_json::Value;
use std::path::Path;

#[test]
fn samples_are_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![("README.md".to_owned(), readme(root)), ("NOTES.txt".to_owned(), notes(root))];
    for entry in std::fs::read_dir(root.join("docs/samples")).unwrap() {
        let path = entry.unwrap().path();
        texts.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
    }
    assert!(texts.len() > 3);
    for (name, text) in texts {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert!(!documents.is_empty(), "{name} holds nothing");
        for document in documents {
            assert_eq!(document["kind"], "EtcdCluster", "{name}");
            assert_eq!(errors(&schema(), &document, None), Vec::<String>::new(), "{name}");
        }
    }
}

fn readme(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.collect::<Vec<_>>().join("---\n")
}

fn notes(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("charts/quorate/templates/NOTES.txt")).unwrap();
    let block =
        text.lines().skip_while(|line| !line.contains("apiVersion")).take_while(|line| !line.contains("EOF"));
    block.map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}
