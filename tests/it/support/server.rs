//! The registry's own process: started on a store, killed, started again on the same store.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use toml::{Table, toml};

use super::access::Access;
use super::client::Client;
use super::repo::Repo;
use super::s3::{self, S3};

/// The longest time of a start or an orderly end on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The kind of store of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Directory,
    S3,
}

/// The S3 server that stands behind a registry.
enum Bucket {
    InProcess(Arc<S3>),
    External(String),
}

enum Store {
    Directory,
    S3 { bucket: Bucket, name: String },
}

/// A registry's process with its store. The process is killed when this is dropped, and the store is gone.
pub(crate) struct Server {
    store: Store,
    directory: TempDir,
    settings: Table,
    access: Access,
    process: Option<Process>,
    log: Arc<Mutex<Vec<String>>>,
}

struct Process {
    child: Child,
    /// Ends the child where this test process dies without dropping it, as the shared servers' does.
    watchdog: Child,
    address: String,
}

/// The S3 server that all stores in this process share.
static SHARED_S3: LazyLock<Arc<S3>> = LazyLock::new(|| Arc::new(S3::start()));

impl Server {
    /// Starts a registry on an empty store, everything allowed to everyone.
    pub(crate) fn start(backend: Backend) -> Self {
        Self::start_with(backend, "")
    }

    /// Starts a server with `settings` (TOML) merged over the configuration.
    pub(crate) fn start_with(backend: Backend, settings: &str) -> Self {
        let bucket = match s3::external_endpoint() {
            Some(endpoint) => Bucket::External(endpoint),
            None => Bucket::InProcess(Arc::clone(&SHARED_S3)),
        };
        Self::start_on(backend, bucket, settings, Access::chosen())
    }

    /// Starts a registry over plain HTTP whatever the environment says, open to everyone but for what `settings` say.
    pub(crate) fn start_plain(backend: Backend, settings: &str) -> Self {
        let bucket = Bucket::InProcess(Arc::clone(&SHARED_S3));
        Self::start_on(backend, bucket, settings, Access::Open)
    }

    /// Starts a registry on an in-process S3 server of its own, whatever the environment says: to make that fail, or to count.
    pub(crate) fn start_on_own_s3(settings: &str) -> Self {
        Self::start_on(Backend::S3, Bucket::InProcess(Arc::new(S3::start())), settings, Access::chosen())
    }

    fn start_on(backend: Backend, bucket: Bucket, settings: &str, access: Access) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let store = match backend {
            Backend::Directory => Store::Directory,
            Backend::S3 => {
                let name = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                s3::create_bucket(bucket.endpoint(), &name);
                Store::S3 { bucket, name }
            }
        };
        let settings = settings.parse().unwrap_or_else(|error| panic!("a test's settings are not TOML: {error}"));
        let directory = tempfile::tempdir().expect("make a directory for a test");
        let mut server = Self { store, directory, settings, access, process: None, log: Arc::default() };
        server.restart();
        server
    }

    /// Starts the process (again) on the same store; a running one is killed first.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let config = self.write_configuration();
        self.process = Some(Process::start(&config, &self.log));
    }

    /// Starts the process again on the configuration file as it is.
    pub(crate) fn start_again_as_it_is(&mut self) {
        self.kill();
        self.process = Some(Process::start(&self.configuration_file(), &self.log));
    }

    /// Edits the configuration of the running server, as an editor does that writes beside and renames.
    pub(crate) fn edit(&mut self, settings: &str) {
        self.settings = settings.parse().unwrap_or_else(|error| panic!("a test's settings are not TOML: {error}"));
        self.write_configuration();
    }

    fn write_configuration(&self) -> PathBuf {
        let (config, beside) = (self.configuration_file(), self.directory.path().join("config.toml.new"));
        std::fs::write(&beside, self.configuration().to_string()).expect("write the server's configuration");
        // it has secrets, and the server warns of those that others can read
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).expect("make it private");
        std::fs::rename(&beside, &config).expect("put the server's configuration in place");
        config
    }

    /// Returns the file that the server reads.
    pub(crate) fn configuration_file(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    /// Waits until the server logs a line that has all of `words`, behind its first `after` lines; how many there are then.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, after: usize, words: &[&str]) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let found = log.iter().skip(after).position(|line| words.iter().all(|word| line.contains(word)));
            if let Some(found) = found {
                return after + found + 1;
            }
            assert!(Instant::now() < deadline, "no line with {words:?} after {after} lines of\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the running process a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let process = self.process.as_ref().expect("the server runs");
        let pid = rustix::process::Pid::from_child(&process.child);
        rustix::process::kill_process(pid, signal).expect("send a signal");
    }

    /// Returns the whole configuration. It sets the address and the store, and has defaults otherwise.
    fn configuration(&self) -> Table {
        let mut config = toml! {
            [server]
            bind_address = "127.0.0.1"
            port = 0
        };
        merge(&mut config, &self.access.configuration(self.directory.path()));
        let storage = match &self.store {
            Store::Directory => {
                let root = self.root().display().to_string();
                toml! { fs = { root_dir = root } }
            }
            Store::S3 { bucket, name } => {
                let mut s3 = toml! { key_prefix = "registry" };
                let keys = [("access_key_id", s3::ACCESS_KEY), ("secret_key", s3::SECRET_KEY), ("region", s3::REGION)];
                for (key, value) in keys.into_iter().chain([("endpoint", bucket.endpoint()), ("bucket", name)]) {
                    s3.insert(key.to_owned(), value.into());
                }
                Table::from_iter([("s3".to_owned(), s3.into())])
            }
        };
        config.insert("storage".to_owned(), storage.into());
        merge(&mut config, &self.settings);
        config
    }

    /// Returns the directory of the store, which the server makes.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Returns the S3 server behind this registry, which is in this process.
    pub(crate) fn s3(&self) -> &S3 {
        match &self.store {
            Store::S3 { bucket: Bucket::InProcess(s3), .. } => s3,
            _ => panic!("this registry is not on an in-process S3 server"),
        }
    }

    /// Returns the bucket of this registry.
    pub(crate) fn bucket(&self) -> &str {
        match &self.store {
            Store::S3 { name, .. } => name,
            Store::Directory => panic!("this registry is on a directory"),
        }
    }

    /// Returns the address of the server, `host:port`. A restart changes it.
    pub(crate) fn address(&self) -> &str {
        &self.process.as_ref().expect("the server runs").address
    }

    pub(crate) fn client(&self) -> Client {
        self.access.client(self.address())
    }

    pub(crate) fn repo(&self, name: &str) -> Repo {
        Repo::new(self.client(), name)
    }

    /// Kills the server by `kill -9`, in the middle of its work.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end();
        }
    }

    /// Sends SIGTERM, and returns the exit status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server runs");
        let pid = rustix::process::Pid::from_child(&process.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("send SIGTERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.child.try_wait().expect("wait for the server") {
                process.end();
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server did not end within {PATIENCE:?} of SIGTERM\n{}",
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns every line of the log so far, with those of earlier processes.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("log").clone()
    }

    fn log_text(&self) -> String {
        self.log().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}\n---", self.log_text());
        }
    }
}

impl Bucket {
    fn endpoint(&self) -> &str {
        match self {
            Self::InProcess(s3) => s3.endpoint(),
            Self::External(endpoint) => endpoint,
        }
    }
}

impl Process {
    fn start(config: &Path, log: &Arc<Mutex<Vec<String>>>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_simple-registry"))
            .arg("-c")
            .arg(config)
            .arg("server")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the server");
        // it reads until this process is gone, however that came, and then ends the server
        let watchdog = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$1\"", "watchdog"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the watchdog");
        let stderr = child.stderr.take().expect("its stderr is a pipe");
        let (found, address) = mpsc::channel();
        let lines = Arc::clone(log);
        std::thread::spawn(move || follow(stderr, &lines, &found));
        let mut process = Self { child, watchdog, address: String::new() };
        process.address = process.wait_for(&address, log);
        process
    }

    fn wait_for(&mut self, address: &Receiver<String>, log: &Mutex<Vec<String>>) -> String {
        address.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            self.end();
            let log = log.lock().map(|log| log.join("\n")).unwrap_or_default();
            panic!("the server never said its address ({error}); its log:\n{log}")
        })
    }

    fn end(&mut self) {
        // the watchdog first, so that it never kills a process that came to have the same id
        for child in [&mut self.watchdog, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps the log, and tells the address once a line has it, at its top level or under `fields`.
fn follow(stderr: ChildStderr, log: &Mutex<Vec<String>>, found: &Sender<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let value: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = value["address"].as_str().or_else(|| value["fields"]["address"].as_str()).map(str::to_owned);
        log.lock().expect("log").push(line);
        if let Some(address) = address {
            let _ = found.send(address);
        }
    }
}

/// Puts `other` over `table`: tables merge, other values are replaced.
fn merge(table: &mut Table, other: &Table) {
    for (key, value) in other {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Returns a repository for one test on a shared server: that of this backend, or the one in `SIMPLE_REGISTRY_TEST_URL`.
pub(crate) fn shared_repo(backend: Backend, test: &str) -> Repo {
    // many tests leave uploads open, and all of them are one client
    const UPLOADS: &str = "max_uploads_per_address = 1000000\nmax_uploads_per_identity = 1000000";
    static DIRECTORY: LazyLock<Server> = LazyLock::new(|| Server::start_with(Backend::Directory, UPLOADS));
    static S3: LazyLock<Server> = LazyLock::new(|| Server::start_with(Backend::S3, UPLOADS));
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let client = match std::env::var("SIMPLE_REGISTRY_TEST_URL") {
        Ok(address) if !address.is_empty() => Client::new(address.trim_start_matches("http://").trim_end_matches('/')),
        _ if backend == Backend::Directory => DIRECTORY.client(),
        _ => S3.client(),
    };
    // the process id keeps runs apart on a registry that outlives them
    Repo::new(client, format!("test/{}/{test}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}
