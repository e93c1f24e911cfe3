//! Compiled Python, kept by the content of its source: each file is compiled once, whichever environments have it.
//!
//! The environments of apps cannot be written to when they run, so what is not compiled here is compiled again at
//! every start of the app.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::process::{Interrupted, Job, Program};
use super::python::Python;
use super::view::View;

/// Larger files are tables in disguise; compiling them takes seconds and saves little.
const SOURCE_BYTES: u64 = 4 << 20;

/// Compiles pairs of paths, source and target, that come on its standard input. The files are known by the hash of
/// their source, so Python need not compare times. What cannot be compiled, such as a template, is left out.
const COMPILER: &str = "\
import concurrent.futures, os, py_compile, sys
def compile(pair):
    try:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(pair[0], pair[1], doraise=True, quiet=2, invalidation_mode=mode)
    except Exception:
        pass
if __name__ == '__main__':
    paths = sys.stdin.buffer.read().split(b'\\0')[:-1]
    pairs = [(os.fsdecode(a), os.fsdecode(b)) for a, b in zip(paths[::2], paths[1::2])]
    if len(pairs) < 50:
        list(map(compile, pairs))
    else:
        with concurrent.futures.ProcessPoolExecutor() as pool:
            list(pool.map(compile, pairs, chunksize=20))
";

/// A Python file of an environment.
#[derive(Debug, Clone)]
struct Module {
    source: PathBuf,
    /// Where Python looks for what it was compiled to.
    target: PathBuf,
    /// Where that is kept.
    kept: PathBuf,
}

/// Compiles what is in `venv`, or takes it from `cache`.
///
/// Nothing depends on it, so nothing but an interruption is an error.
pub(super) async fn compile(
    job: &Job,
    cache: &Path,
    python: &Python,
    venv: &Path,
) -> Result<(), Interrupted> {
    let (library, cache, tag) = (venv.join("lib"), cache.join(&python.version), python.cache_tag.clone());
    let missing = tokio::task::spawn_blocking(move || link_known(&library, &cache, &tag)).await;
    let missing = missing.unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let mut input = Vec::new();
    for module in &missing {
        for path in [&module.source, &module.target] {
            input.extend_from_slice(path.as_os_str().as_encoded_bytes());
            input.push(0);
        }
    }
    // `-S`: a package may bring files that are run whenever Python starts, but not with this.
    let program = Program::new(venv.join("bin/python")).args(["-I", "-S", "-c", COMPILER]);
    let program =
        program.sees(View::default().owns([venv]).reads(python.reads().iter().map(PathBuf::as_path)));
    let program = program.offline();
    let ((), said) = job.stream(&program, input, |mut from| drop(from.read_to_end(&mut Vec::new()))).await?;
    if said.ok() {
        let kept = tokio::task::spawn_blocking(move || missing.iter().for_each(|module| drop(keep(module))));
        // A task that was not run has kept nothing, which costs time only.
        let _ = kept.await;
    }
    Ok(())
}

/// Links what is known by the hash of its source into place; returns the rest.
fn link_known(library: &Path, cache: &Path, tag: &str) -> Vec<Module> {
    let mut sources = Vec::new();
    // An unreadable directory has nothing to compile.
    let _ = find_sources(library, &mut sources);
    let modules = sources.into_iter().filter_map(|source| module(source, cache, tag).ok());
    modules.filter(|module| fs::hard_link(&module.kept, &module.target).is_err()).collect()
}

fn find_sources(dir: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name();
        // Nobody imports the tests of a package, and they are half of many.
        if kind.is_dir() && name != "tests" && name != "test" && name != "__pycache__" {
            find_sources(&entry.path(), into)?;
        } else if kind.is_file()
            && name.as_encoded_bytes().ends_with(b".py")
            && entry.metadata()?.len() <= SOURCE_BYTES
        {
            into.push(entry.path());
        }
    }
    Ok(())
}

fn module(source: PathBuf, cache: &Path, tag: &str) -> io::Result<Module> {
    let (Some(dir), Some(stem)) = (source.parent(), source.file_stem()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut text = Vec::new();
    File::open(&source)?.read_to_end(&mut text)?;
    let hash: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    let compiled = dir.join("__pycache__");
    match fs::symlink_metadata(&compiled) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(&compiled)?;
            // The compiler, which writes here as well, may be another user: the one that installed the source.
            let owner = fs::metadata(dir)?;
            lchown(&compiled, Some(owner.uid()), Some(owner.gid()))?;
        }
        // A package could have put a link here, to have files made elsewhere.
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) => return Err(error),
    }
    let mut name = stem.to_owned();
    name.push(format!(".{tag}.pyc"));
    let kept = cache.join(&hash[..2]).join(hash);
    Ok(Module { target: compiled.join(name), kept, source })
}

fn keep(module: &Module) -> io::Result<()> {
    if let Some(dir) = module.kept.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::hard_link(&module.target, &module.kept)
}
