//! `make oci`: see the library beside.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

const USAGE: &str = "\
usage: m2m-auth-oci MODULE.wasm FOLDER [MANIFESTS IMAGE INTO]

Writes the OCI image of a module into FOLDER and prints its digest. With the other three, also writes the manifests of
the folder MANIFESTS into the folder INTO, with IMAGE (registry/name:tag) and its digest where the placeholders stand.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match *arguments {
        [module, folder] => image(module, folder),
        [module, folder, manifests, image, into] => {
            image_and_manifests(module, folder, manifests, image, into)
        }
        _ => {
            _ = writeln!(io::stderr(), "{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(digest) => {
            _ = writeln!(io::stdout(), "sha256:{digest}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            _ = writeln!(io::stderr(), "m2m-auth-oci: {error}");
            ExitCode::FAILURE
        }
    }
}

fn image(module: &str, folder: &str) -> io::Result<String> {
    let bytes = fs::read(module).map_err(|error| io::Error::other(format!("{module}: {error}")))?;
    m2m_auth_oci::write(&bytes, Path::new(folder))
}

fn image_and_manifests(
    module: &str,
    folder: &str,
    manifests: &str,
    image: &str,
    into: &str,
) -> io::Result<String> {
    let digest = self::image(module, folder)?;
    m2m_auth_oci::fill(Path::new(manifests), image, &digest, Path::new(into))?;
    Ok(digest)
}
