//! The open loop: a request begins when it is due, whatever has become of those before it.

use super::{MOST_CONNECTIONS, Plan, Report, exchange};
use crate::client::{Connection, Response};
use std::{collections::VecDeque, io, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::sleep_until};

/// What a request gives back when it has ended.
struct Ended {
    outcome: io::Result<Response>,
    connection: Option<Connection>,
    reconnected: u64,
    due: Duration,
    at: Duration,
}

pub(super) async fn drive(plan: Arc<Plan>) -> Report {
    let mut report = Report::default();
    let mut idle = VecDeque::new();
    let mut under_way = JoinSet::new();
    while let Some((request, due)) = plan.next() {
        tokio::select! {
            biased;
            () = sleep_until(due) => {}
            () = settle_all(&mut under_way, &mut idle, &mut report) => {}
        }
        if plan.is_stopped() {
            break;
        }
        while under_way.len() >= MOST_CONNECTIONS {
            settle(under_way.join_next().await, &mut idle, &mut report);
        }
        // The one that has been idle for longest, so that all are used; a new one as long as there
        // are too few.
        let enough = idle.len() + under_way.len() >= plan.load.connections;
        let mut connection = if enough { idle.pop_front() } else { None };
        let (plan, request) = (Arc::clone(&plan), request.clone());
        under_way.spawn(async move {
            let mut reconnected = 0;
            let outcome = exchange(&plan.stamp(&request), &mut connection, &mut reconnected).await;
            Ended { outcome, connection, reconnected, due: plan.since_start(due), at: plan.start.elapsed() }
        });
    }
    while !under_way.is_empty() {
        settle(under_way.join_next().await, &mut idle, &mut report);
    }
    report
}

/// Never comes back: it is dropped when the next request is due.
async fn settle_all(under_way: &mut JoinSet<Ended>, idle: &mut VecDeque<Connection>, report: &mut Report) {
    loop {
        let ended = under_way.join_next().await;
        if ended.is_none() {
            std::future::pending::<()>().await;
        }
        settle(ended, idle, report);
    }
}

fn settle(
    ended: Option<Result<Ended, tokio::task::JoinError>>,
    idle: &mut VecDeque<Connection>,
    report: &mut Report,
) {
    let Some(ended) = ended else { return };
    let Ended { outcome, connection, reconnected, due, at } = ended.expect("the driver does not panic");
    idle.extend(connection);
    report.reconnected += reconnected;
    report.count(outcome, due, at);
}
