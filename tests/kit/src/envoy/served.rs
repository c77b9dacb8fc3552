//! Files that Envoy serves to its own filters: an internal listener `files`, which only this
//! process reaches, and the cluster `files` of it.

use super::config::{cluster_of, filter, listener, manager_mut, route_config, typed};
use serde_json::{Value, json};

/// Name of the internal listener and of its cluster.
const FILES: &str = "files";

/// How Envoy reads a file that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// `%FILE_CONTENT(PATH:DIRECTORY)%`, Envoy 1.38 and later: sees renames and files written in
    /// place, of any size.
    FileContent,
    /// `body.filename` with `watched_directory`, every Envoy: sees renames only, 4096 bytes at
    /// most.
    WatchedDirectory,
}

/// A file and the request path that answers with it.
pub(super) struct Served {
    pub path: String,
    pub file: String,
    pub reading: Reading,
}

impl Served {
    fn route(&self) -> Value {
        let folder = self.file.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let response = match self.reading {
            Reading::FileContent => {
                let kind = typed("envoy.extensions.formatter.file_content.v3.FileContent");
                let formatter = filter("envoy.formatter.file_content", json!({ "@type": kind }));
                let text = format!("%FILE_CONTENT({}:{folder})%", self.file);
                let format =
                    json!({ "text_format_source": { "inline_string": text }, "formatters": [formatter] });
                json!({ "status": 200, "body_format": format })
            }
            Reading::WatchedDirectory => {
                let body = json!({ "filename": self.file, "watched_directory": { "path": folder } });
                json!({ "status": 200, "body": body })
            }
        };
        json!({ "match": { "path": self.path }, "direct_response": response })
    }
}

/// Adds the listener, the cluster and the bootstrap extension, if there is any file.
pub(super) fn serve(bootstrap: &mut Value, files: &[Served]) {
    if files.is_empty() {
        return;
    }
    let mut internal = listener(FILES, Vec::new(), route_config(files.iter().map(Served::route).collect()));
    // The access log is for the requests of the test.
    remove(manager_mut(&mut internal), "access_log");
    remove(&mut internal, "address");
    internal["internal_listener"] = json!({});
    let address = json!({ "envoy_internal_address": { "server_listener_name": FILES } });
    let kind = typed("envoy.extensions.bootstrap.internal_listener.v3.InternalListener");
    let extension = filter("envoy.bootstrap.internal_listener", json!({ "@type": kind }));
    push(&mut bootstrap["static_resources"]["listeners"], internal);
    push(&mut bootstrap["static_resources"]["clusters"], cluster_of(FILES, address));
    push(&mut bootstrap["bootstrap_extensions"], extension);
}

fn remove(object: &mut Value, field: &str) {
    object.as_object_mut().and_then(|fields| fields.remove(field));
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}
