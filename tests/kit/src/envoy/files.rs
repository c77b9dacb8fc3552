//! The files that Envoy watches: always replaced by a rename, so that it never sees half of one.

use crate::key::merge;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// All listeners; `DIRECTORY` in any string is replaced by the folder.
pub(super) fn write_listeners(directory: &Path, listeners: &[Value]) {
    let resources = listeners.iter().map(|listener| {
        let mut resource = json!({ "@type": "type.googleapis.com/envoy.config.listener.v3.Listener" });
        merge(&mut resource, listener.clone());
        resource
    });
    let here = directory.to_str().expect("a temporary folder with a plain name");
    let text = json!({ "resources": resources.collect::<Vec<_>>() }).to_string().replace("DIRECTORY", here);
    replace(directory, "listeners.json", &text);
}

/// One file, old or new at any moment.
pub(super) fn replace(directory: &Path, name: &str, text: &str) {
    let new = directory.join(format!("{name}.new"));
    fs::write(&new, text).expect("a file in the temporary folder");
    fs::rename(new, directory.join(name)).expect("a rename in the temporary folder");
}
