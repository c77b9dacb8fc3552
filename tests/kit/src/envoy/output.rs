//! The lines that a child prints, kept and awaited.

use crate::{
    serve::{lock, runtime},
    wait::PATIENCE,
};
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    sync::watch,
};

/// A stream of lines, growing while the child lives.
pub(super) struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    /// How many lines there are; closed when there will be no more.
    count: watch::Receiver<usize>,
}

impl Lines {
    pub(super) fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (sender, count) = watch::channel(0);
        let kept = Arc::clone(&lines);
        runtime().spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while stream.read_until(b'\n', &mut bytes).await.is_ok_and(|read| read > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                lock(&kept).push(line);
                sender.send_modify(|count| *count += 1);
            }
        });
        Self { lines, count }
    }

    pub(super) fn all(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.lines).len()
    }

    pub(super) fn since(&self, first: usize) -> Vec<String> {
        lock(&self.lines).iter().skip(first).cloned().collect()
    }

    pub(super) fn text(&self) -> String {
        self.all().join("\n")
    }

    pub(super) fn tail(&self, lines: usize) -> String {
        self.since(self.count().saturating_sub(lines)).join("\n")
    }

    /// Comes back when the child has closed the stream.
    pub(super) async fn closed(&self) {
        let mut count = self.count.clone();
        let _ = tokio::time::timeout(PATIENCE, async { while count.changed().await.is_ok() {} }).await;
    }

    /// Comes back with the first line that contains `text`.
    pub(super) async fn wait_for(&self, text: &str) -> String {
        let mut count = self.count.clone();
        count.mark_changed();
        let mut next = 0;
        let search = async {
            loop {
                let open = count.changed().await.is_ok();
                let new = self.since(next);
                next += new.len();
                if let Some(line) = new.into_iter().find(|line| line.contains(text)) {
                    return Some(line);
                }
                if !open {
                    return None;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await.ok().flatten();
        found.unwrap_or_else(|| panic!("no log line with {text:?}; the last ones:\n{}", self.tail(40)))
    }
}
