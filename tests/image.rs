//! The images, as `images/build.sh` makes them: what is in them, what is not, and that both architectures work.
#![allow(clippy::disallowed_methods, reason = "tests spawn and read files")]

mod testbed;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::cluster::images::build;
use testbed::{vault, watchdog::Watchdog};

/// Most bytes of our image, uncompressed.
const MOST_BYTES: u64 = 10_000_000;

/// The programs that make and try the images, and the Debian packages they come from.
const TOOLS: [(&str, &str); 4] = [
    ("buildah", "buildah"),
    ("musl-gcc", "musl-tools"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    ("qemu-aarch64-static", "qemu-user-static"),
];

/// Builds both images once; gives the directory of the archives, or `None` after saying why the test is skipped.
fn images(test: &str) -> Result<Option<PathBuf>> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    // Root, since buildah without it needs a machine that is set up for that.
    if !testbed::requirements::is_root(test) || !testbed::requirements::has(test, &TOOLS) {
        return Ok(None);
    }
    let built = BUILT.get_or_init(|| build("amd64,arm64").map_err(|error| format!("{error:#}")));
    match built {
        Ok(directory) => Ok(Some(directory.clone())),
        Err(why) => bail!("failed to build the images: {why}"),
    }
}

/// One platform of an OCI archive: its configuration, and its files unpacked.
struct Unpacked {
    config: Value,
    files: PathBuf,
    layers: usize,
    _directory: tempfile::TempDir,
}

/// Unpacks an archive in the OCI image layout, <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.
fn unpack(archive: &Path, architecture: &str) -> Result<Unpacked> {
    let directory = tempfile::tempdir()?;
    let layout = directory.path().join("layout");
    let files = directory.path().join("files");
    std::fs::create_dir_all(&layout)?;
    std::fs::create_dir_all(&files)?;
    tar(&["--extract", "--file"], archive, &layout)?;
    let blob = |digest: &Value| -> Result<PathBuf> {
        Ok(layout.join("blobs").join(digest.as_str().context("a digest")?.replace(':', "/")))
    };
    let json = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let index = json(blob(&json(layout.join("index.json"))?["manifests"][0]["digest"])?)?;
    let platforms = index["manifests"].as_array().context("an index of platforms")?;
    let found = platforms.iter().find(|platform| platform["platform"]["architecture"] == architecture);
    let manifest = json(blob(&found.with_context(|| format!("no {architecture} in {index}"))?["digest"])?)?;
    let layers = manifest["layers"].as_array().context("layers")?;
    for layer in layers {
        tar(&["--extract", "--gzip", "--file"], &blob(&layer["digest"])?, &files)?;
    }
    let config = json(blob(&manifest["config"]["digest"])?)?;
    Ok(Unpacked { config, files, layers: layers.len(), _directory: directory })
}

fn tar(arguments: &[&str], archive: &Path, into: &Path) -> Result<()> {
    let status = Command::new("tar").args(arguments).arg(archive).arg("--directory").arg(into).status()?;
    ensure!(status.success(), "tar could not unpack {}", archive.display());
    Ok(())
}

/// Every file below a directory, as paths from there.
fn listing(directory: &Path) -> Result<Vec<String>> {
    let output = Command::new("find").arg(directory).args(["!", "-type", "d", "-printf", "%m %P\n"]).output()?;
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

#[test]
fn the_image_holds_one_static_binary_and_nothing_else() -> Result<()> {
    let Some(images) = images("the_image_holds_one_static_binary_and_nothing_else")? else { return Ok(()) };
    for architecture in ["amd64", "arm64"] {
        let image = unpack(&images.join("keyferry.tar"), architecture)?;
        assert_eq!(listing(&image.files)?, ["555 keyferry"], "no shell, no library, no package");
        assert_eq!(image.layers, 1);
        let size = std::fs::metadata(image.files.join("keyferry"))?.len();
        println!("{architecture}: {size} bytes uncompressed");
        assert!(size <= MOST_BYTES, "{architecture}: {size} bytes");
        let config = &image.config["config"];
        assert_eq!(config["User"], "65532:65532", "numeric, so that the kubelet can check runAsNonRoot");
        assert_eq!(config["Entrypoint"], json!(["/keyferry"]));
        let labels = &config["Labels"];
        assert_eq!(labels["org.opencontainers.image.title"], "keyferry");
        assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0 OR MIT");
        for label in ["revision", "description"] {
            let label = format!("org.opencontainers.image.{label}");
            assert!(labels[&label].as_str().is_some_and(|text| !text.is_empty()), "{label}");
        }
    }
    Ok(())
}

#[test]
fn the_demo_application_s_image_holds_one_binary_under_another_uid() -> Result<()> {
    let name = "the_demo_application_s_image_holds_one_binary_under_another_uid";
    let Some(images) = images(name)? else { return Ok(()) };
    for architecture in ["amd64", "arm64"] {
        let image = unpack(&images.join("webapp.tar"), architecture)?;
        assert_eq!(listing(&image.files)?, ["555 webapp"]);
        assert_eq!(image.config["config"]["User"], "1000:1000");
    }
    Ok(())
}

#[test]
fn the_same_binary_gives_the_same_image() -> Result<()> {
    let Some(images) = images("the_same_binary_gives_the_same_image")? else { return Ok(()) };
    let copy = tempfile::tempdir()?;
    let context = copy.path().join("image");
    std::fs::create_dir_all(&context)?;
    for architecture in ["amd64", "arm64"] {
        let binary = format!("keyferry-{architecture}");
        std::fs::copy(images.join(&binary), context.join(&binary))?;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/images/build.sh");
    let output = Command::new(script).args(["--prebuilt", "keyferry"]).env("CARGO_TARGET_DIR", copy.path()).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for architecture in ["amd64", "arm64"] {
        let first = unpack(&images.join("keyferry.tar"), architecture)?.config;
        let second = unpack(&context.join("keyferry.tar"), architecture)?.config;
        assert_eq!(first, second, "the configuration names the layers by digest");
    }
    Ok(())
}

/// The emulated binary does what the native one does, TLS included: `ring` has separate assembly code for each architecture.
#[tokio::test]
async fn the_arm64_binary_reads_from_vault_over_tls() -> Result<()> {
    let name = "the_arm64_binary_reads_from_vault_over_tls";
    if testbed::skipped(name) {
        return Ok(());
    }
    let Some(images) = images(name)? else { return Ok(()) };
    testbed::install_tls();
    let watchdog = Watchdog::start()?;
    let binaries = testbed::binaries::Binaries::find_or_build()?;
    let vault =
        vault::Vault::start(&binaries, &watchdog, vault::Options { tls: true, ..vault::Options::default() }).await?;
    vault.admin()?.put_kv("secret", "webapp/config", &testbed::reference_scenario::secret_data()).await?;
    let directory = watchdog.memory.join("sensitive");
    let ca = vault.ca_file().context("Vault serves TLS")?;
    let output = Command::new("qemu-aarch64-static")
        .arg(unpack(&images.join("keyferry.tar"), "arm64")?.files.join("keyferry"))
        .arg("once")
        .env_clear()
        .env("VAULT_ADDR", vault.address())
        .env("VAULT_CACERT", ca)
        .env("VAULT_TOKEN", vault.root_token())
        .env("KEYFERRY_SECRETS", "secret/webapp/config")
        .env("KEYFERRY_DIRECTORY", &directory)
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(directory.join("password"))?, "Losungwort");
    vault.stop().await
}
