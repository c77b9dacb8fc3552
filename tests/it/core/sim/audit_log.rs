//! The audit log: every field that a line can have is written, and described. That a line has no
//! other field is asserted by the driver, for the lines of every test.

use crate::core::sim::exchange;
use crate::core::sim::world::{World, both, get, items, pay, secs};
use crate::project::tree::{code, read, rows};
use m2m_auth::plugin::audit_log::AuditEvent;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn names(event: AuditEvent) -> BTreeSet<&'static str> {
    event.fields().iter().map(|field| field.name()).collect()
}

#[test]
fn each_field_is_written_by_a_line_of_its_event() {
    let mut configuration = both();
    configuration["outbound"]["rules"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({ "name": "by-route", "route_metadata": true }));
    let mut trial = configuration["inbound"]["rules"][0].clone();
    trial["match"]["path_prefix"] = json!("/trial");
    trial["mode"] = json!("danger_dry_run");
    configuration["inbound"]["rules"].as_array_mut().unwrap().push(trial);
    let mut world = World::warm(&configuration);
    let key = world.provider.published[0].clone();
    let stranger = world.mint(&key, 300, "another-service");
    for path in ["/inventory/items", "/trial"] {
        world.ask(&get(path).bearer(&stranger).naming("nobody"));
        for _ in 0..20 {
            world.ask(&get(path));
        }
        world.pass(secs(1));
        world.ask(&get(path));
    }
    assert_eq!(world.ask(&pay().naming("nobody")).reason(), "unknown_credential");
    world.ask(&items(&stranger));
    let written = |event: AuditEvent| -> BTreeSet<&str> {
        let fields = world.fields.iter().filter(|(about, _)| about == event.name());
        fields.map(|(_, field)| field.as_str()).collect()
    };
    assert_eq!(written(AuditEvent::Refused), names(AuditEvent::Refused));
    let mut fetch = names(AuditEvent::Fetch);
    assert!(fetch.remove("suppressed_before"), "here are fewer fetches than that");
    assert_eq!(written(AuditEvent::Fetch), fetch);
}

#[test]
fn fetches_that_callers_cause_are_suppressed_beyond_ten_a_second_and_counted() {
    let mut world = World::warm(&exchange::config());
    let suppressed = ("fetch".to_owned(), "suppressed_before".to_owned());
    for is_counted in [false, true] {
        for _ in 0..20 {
            let token = exchange::caller(&mut world, 300);
            world.send(&items(&token).host("payment"));
        }
        world.pass(secs(2));
        assert_eq!(world.fields.contains(&suppressed), is_counted);
    }
    assert_eq!(world.counters().get("m2m_auth_audit_suppressed"), Some(&20));
}

/// The rows of the two tables of the page, in their order.
fn described() -> Vec<Vec<String>> {
    let page = read("docs/reference/log-fields.md");
    let tables = page.split("\n## ").filter(|section| section.contains("\n| field |"));
    let names =
        |section: &str| rows(section, "field").iter().map(|row| code(&row[0])[0].to_owned()).collect();
    tables.map(names).collect()
}

#[test]
fn the_page_describes_every_field_that_can_be_written_and_no_other() {
    let fields = |event: AuditEvent| event.fields().iter().map(|field| field.name().to_owned()).collect();
    let expected: Vec<Vec<String>> = vec![fields(AuditEvent::Refused), fields(AuditEvent::Fetch)];
    assert_eq!(described(), expected);
    let page = read("docs/reference/log-fields.md");
    for row in rows(&page, "field") {
        assert!(row.len() == 5 && row.iter().all(|cell| cell.len() > 1), "{row:?}");
        assert!(["string", "integer"].contains(&row[1].as_str()), "{row:?}");
    }
    for event in AuditEvent::ALL {
        assert!(page.contains(&format!("`{}`", event.name())), "{}", event.name());
    }
    for line in page.lines().filter(|line| line.contains("m2m-auth: {\"")) {
        let json: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        let event = AuditEvent::ALL.iter().find(|event| json["event"] == event.name()).unwrap();
        assert!(json.as_object().unwrap().keys().all(|name| names(*event).contains(name.as_str())), "{line}");
    }
}
