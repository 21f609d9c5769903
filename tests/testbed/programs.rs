//! The programs of the testbed, and the pinned Go module that each is built from.

/// A Go module with pinned versions.
pub struct Module {
    pub name: &'static str,
    pub go_mod: &'static str,
    pub go_sum: &'static str,
    /// Our own source, `main.go`, if the module is not only a list of pins.
    pub main_go: Option<&'static str>,
}

/// A module that pins other modules.
const fn pins(name: &'static str, go_mod: &'static str, go_sum: &'static str) -> Module {
    Module { name, go_mod, go_sum, main_go: None }
}

/// Kubernetes, etcd and containerd. One module, so that they share dependencies.
pub const KUBE: Module = pins("kube", include_str!("go/kube/go.mod"), include_str!("go/kube/go.sum"));
const VAULT: Module = pins("vault", include_str!("go/vault/go.mod"), include_str!("go/vault/go.sum"));
const VAULT_PLUGIN: Module =
    pins("vault-plugin", include_str!("go/vault-plugin/go.mod"), include_str!("go/vault-plugin/go.sum"));

const HELM: Module = pins("helm", include_str!("go/helm/go.mod"), include_str!("go/helm/go.sum"));
/// Separate from Helm: helm-unittest depends on Helm 3 and needs a `replace` directive that would affect both.
const HELM_UNITTEST: Module =
    pins("helm-unittest", include_str!("go/helm-unittest/go.mod"), include_str!("go/helm-unittest/go.sum"));

/// The template engine of the Vault Agent, with the versions of the libraries that the pinned Vault has.
const CONSUL_TEMPLATE: Module = Module {
    name: "consul-template",
    go_mod: include_str!("go/consul-template/go.mod"),
    go_sum: include_str!("go/consul-template/go.sum"),
    main_go: Some(include_str!("go/consul-template/main.go")),
};

/// A program that can be built.
pub struct Program {
    pub name: &'static str,
    pub module: &'static Module,
    pub package: &'static str,
    pub tags: &'static str,
    pub ldflags: &'static str,
    /// Usual build time on two cores, in the order of this table, with an empty Go build cache.
    pub usual: &'static str,
    /// Whether a program of this name on `PATH` is used.
    pub public: bool,
}

const STRIP: &str = "-s -w";
/// Without a version stamp the programs report v0.0.0 and reject their own feature gates.
const STAMP: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 \
                     -X k8s.io/component-base/version.gitMinor=37";
/// Excludes snapshotters that need cgo or file systems that a test node does not have.
const CONTAINERD_TAGS: &str = "no_btrfs,no_devmapper,no_zfs";

/// A program of the Kubernetes module.
const fn kube(name: &'static str, package: &'static str, usual: &'static str) -> Program {
    Program { name, module: &KUBE, package, tags: "", ldflags: STAMP, usual, public: true }
}

/// A program of containerd, always in the pinned version: another version would need another configuration.
const fn containerd(name: &'static str, package: &'static str, usual: &'static str) -> Program {
    Program { name, module: &KUBE, package, tags: CONTAINERD_TAGS, ldflags: STRIP, usual, public: false }
}

/// A plugin of Vault for an engine that the minimal build does not have.
const fn vault_plugin(name: &'static str, package: &'static str) -> Program {
    Program { name, module: &VAULT, package, tags: "minimal", ldflags: STRIP, usual: "1 min", public: false }
}

pub const PROGRAMS: [Program; 13] = [
    Program { ldflags: STRIP, ..kube("etcd", "go.etcd.io/etcd/server/v3", "40 s") },
    kube("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "5 min"),
    kube("kubelet", "k8s.io/kubernetes/cmd/kubelet", "90 s"),
    kube("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", "40 s"),
    kube("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", "10 s"),
    // Also copied into an image, so it must be static. The user's kubectl can be a wrapper, or much older.
    Program { public: false, ..kube("kubectl", "k8s.io/kubernetes/cmd/kubectl", "20 s") },
    containerd("containerd", "github.com/containerd/containerd/v2/cmd/containerd", "40 s"),
    containerd("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "5 s"),
    containerd("ctr", "github.com/containerd/containerd/v2/cmd/ctr", "5 s"),
    Program {
        name: "vault",
        module: &VAULT,
        package: "github.com/hashicorp/vault",
        // Halves the build time; the auth method kubernetes is then a plugin.
        tags: "minimal",
        ldflags: STRIP,
        usual: "6 min",
        public: true,
    },
    Program {
        name: "vault-plugin-auth-kubernetes",
        module: &VAULT_PLUGIN,
        package: "github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes",
        tags: "",
        ldflags: STRIP,
        usual: "1 min",
        public: false,
    },
    vault_plugin(
        "postgresql-database-plugin",
        "github.com/hashicorp/vault/plugins/database/postgresql/postgresql-database-plugin",
    ),
    vault_plugin("vault-plugin-secrets-totp", "github.com/hashicorp/vault/builtin/logical/totp/cmd/totp"),
];

/// The programs of the chart tests, always in the pinned versions: rendering and linting change between Helm versions.
pub const CHART_PROGRAMS: [Program; 2] = [
    Program {
        name: "helm",
        module: &HELM,
        package: "helm.sh/helm/v4/cmd/helm",
        tags: "",
        ldflags: STRIP,
        usual: "3 min",
        public: false,
    },
    Program {
        name: "helm-unittest",
        module: &HELM_UNITTEST,
        package: "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
        tags: "",
        ldflags: STRIP,
        usual: "1 min",
        public: false,
    },
];

/// Renders templates with the engine of the Vault Agent, for comparison (`consul_template.rs`).
pub const TEMPLATE_PROGRAMS: [Program; 1] = [Program {
    name: "consul-template-oracle",
    module: &CONSUL_TEMPLATE,
    package: ".",
    tags: "",
    ldflags: STRIP,
    usual: "1 min",
    public: false,
}];
