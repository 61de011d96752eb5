//! What images there are and how their etcd behaves, told from the tag and the flags.

use quorate::etcd::EtcdVersion;

/// What happens when an image is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// There is none of this name.
    Missing,
    /// It cannot be executed at all, not even for `--version`.
    Broken,
    /// It holds this etcd.
    Holds(EtcdVersion),
    /// It says this version and exits as soon as it is really started.
    Crashes(EtcdVersion),
    /// It holds this etcd, which serves for some seconds and then exits.
    Falters(EtcdVersion),
}

/// Tags with these patches are special.
pub const MISSING: u64 = 99;
pub const CRASHES: u64 = 98;
pub const LIES: u64 = 97;
pub const BROKEN: u64 = 96;
pub const FALTERS: u64 = 95;

/// A flag with a value with which no etcd starts (exit code 2). One that etcd does not know would be refused.
pub const BAD_FLAG: &str = "max-wals";

pub fn image(name: &str) -> Image {
    let version = name.rsplit_once(":v").and_then(|(_, tag)| tag.parse::<EtcdVersion>().ok());
    match version {
        None => Image::Missing,
        Some(version) => match version.patch {
            MISSING => Image::Missing,
            BROKEN => Image::Broken,
            CRASHES => Image::Crashes(version),
            FALTERS => Image::Falters(version),
            LIES => Image::Holds(version.minor.patch(10)),
            _ => Image::Holds(version),
        },
    }
}
