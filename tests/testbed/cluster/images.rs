//! Images for the test node, written without an image tool: a layer, a configuration, a manifest
//! (<https://github.com/moby/docker-image-spec/blob/main/spec.md#combined-image-json--filesystem-changeset-format>).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::json;

use super::super::agent::unset_package_variables;
use super::output;

/// Busybox applets in the toolbox.
const APPLETS: &str = "sh ls cat id mount sleep mkdir rm ln echo touch wget ps kill stat readlink dd head tail wc grep env test true cmp find";

/// Programs that `images/build.sh` needs, with their Debian packages.
pub const TOOLS: [(&str, &str); 2] = [("buildah", "buildah"), ("musl-gcc", "musl-tools")];

/// Cargo's target directory of this build. Cargo passes it to tests; an example is in `target/<profile>/examples`.
pub fn target_directory() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let from_cargo = option_env!("CARGO_TARGET_TMPDIR").and_then(|inside| Path::new(inside).parent());
    from_cargo.or_else(|| own.ancestors().nth(3)).map_or_else(|| "target".into(), Path::to_path_buf)
}

/// The architecture of this machine, in the notation of images.
pub fn architecture() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

/// Builds the shipped images with `images/build.sh`; returns the directory of the archives `keyferry.tar` and `webapp.tar`.
pub fn build(architectures: &str) -> Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/images/build.sh");
    super::super::binaries::print_uncaptured(
        "building the images: the release binary takes two minutes or more the first time",
    );
    let mut build = Command::new(script);
    unset_package_variables(&mut build);
    output(build.args(["--arch", architectures]).env("CARGO_TARGET_DIR", target_directory()).stdin(Stdio::null()))?;
    Ok(target_directory().join("image"))
}

/// An image to write.
pub struct Image<'a> {
    /// Name and tag, as in a pod's specification.
    pub name: &'a str,
    pub entrypoint: &'a [&'a str],
    pub user: &'a str,
    /// Directory with the files of the image.
    pub root: &'a Path,
}

/// The pause image, which keeps a pod's namespaces open.
pub fn pause(directory: &Path) -> Result<PathBuf> {
    let root = directory.join("pause");
    std::fs::create_dir_all(&root)?;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/images/pause/pause.c");
    output(Command::new("gcc").args(["-static", "-O2", "-s", "-o"]).arg(root.join("pause")).arg(source))?;
    let image = Image { name: "keyferry-pause:0.1.0", entrypoint: &["/pause"], user: "65535:65535", root: &root };
    write(&image, directory)
}

/// An image with a shell and `kubectl`, for checks inside a pod.
pub fn toolbox(directory: &Path, kubectl: &Path) -> Result<PathBuf> {
    let root = directory.join("toolbox");
    let bin = root.join("bin");
    std::fs::create_dir_all(&bin)?;
    let busybox = output(Command::new("sh").args(["-c", "command -v busybox"]))?;
    std::fs::copy(busybox.trim(), bin.join("busybox"))?;
    std::fs::copy(kubectl, bin.join("kubectl"))?;
    for applet in APPLETS.split_whitespace() {
        let _ = std::os::unix::fs::symlink("busybox", bin.join(applet));
    }
    let image =
        Image { name: "keyferry-toolbox:0.1.0", entrypoint: &["/bin/sh", "-c"], user: "1000:1000", root: &root };
    write(&image, directory)
}

/// Writes the archive next to the image's root; returns its path.
fn write(image: &Image<'_>, directory: &Path) -> Result<PathBuf> {
    let stem = image.root.file_name().context("a root has a name")?.to_string_lossy();
    let parts = directory.join(format!("{stem}-parts"));
    std::fs::create_dir_all(&parts)?;
    let layer = parts.join("layer.tar");
    let tar = || {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--owner=0", "--group=0", "--mtime=@0", "--sort=name", "--file"]);
        tar
    };
    output(tar().arg(&layer).arg("--directory").arg(image.root).arg("."))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(&layer)?);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": image.entrypoint, "User": image.user, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{hex}")]},
    });
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": [format!("docker.io/library/{}", image.name)],
        "Layers": ["layer.tar"],
    }]);
    std::fs::write(parts.join("config.json"), config.to_string())?;
    std::fs::write(parts.join("manifest.json"), manifest.to_string())?;
    let archive = directory.join(format!("{stem}.tar"));
    output(tar().arg(&archive).arg("--directory").arg(&parts).args(["manifest.json", "config.json", "layer.tar"]))?;
    Ok(archive)
}
