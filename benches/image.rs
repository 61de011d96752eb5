//! The size of the operator's image: the bytes of its layers, as on disk and as a registry sends them.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::path::Path;
use std::process::{Command, Stdio};

/// Bytes.
pub struct Size {
    pub uncompressed: u64,
    pub compressed: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    layers: Vec<String>,
}

/// Of a docker-archive whose layers are plain tars.
pub fn measure(archive: &Path) -> anyhow::Result<Size> {
    let manifest = Command::new("tar").arg("-xOf").arg(archive).arg("manifest.json").output()?;
    let [Manifest { layers }] = serde_json::from_slice::<[Manifest; 1]>(&manifest.stdout)
        .with_context(|| format!("{} is not an archive with one image", archive.display()))?;
    let mut size = Size { uncompressed: 0, compressed: 0 };
    for layer in &layers {
        size.uncompressed += count(archive, layer, "cat")?;
        size.compressed += count(archive, layer, "gzip")?;
    }
    Ok(size)
}

/// How many bytes of the layer come out of this filter.
fn count(archive: &Path, layer: &str, filter: &str) -> anyhow::Result<u64> {
    let mut tar = Command::new("tar")
        .arg("-xOf")
        .arg(archive)
        .arg(layer)
        .stdout(Stdio::piped())
        .spawn()
        .context("no tar")?;
    let mut filtering = Command::new(filter)
        .stdin(tar.stdout.take().context("no output of tar")?)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("no {filter}"))?;
    let bytes = std::io::copy(&mut filtering.stdout.take().context("no output")?, &mut std::io::sink())?;
    if !(tar.wait()?.success() && filtering.wait()?.success()) {
        bail!("{layer} cannot be read from {}", archive.display());
    }
    Ok(bytes)
}
