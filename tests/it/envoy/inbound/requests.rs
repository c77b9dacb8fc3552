//! Requests of every shape: each is judged by the rule that was written for it.

use super::{challenge, stage};
use m2m_auth_kit::client::Connection;
use serde_json::json;

#[tokio::test]
async fn a_request_that_matches_no_rule_is_denied_even_with_a_good_token() {
    let stage = stage().await;
    for path in ["/", "/other", "/inventoryx", "/publicly", "/identity/more"] {
        let answer = stage.refused(&stage.scene.get(path).bearer(stage.scene.idp.token()), path).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (403, &json!("no_rule")), "{path}");
        assert_eq!(challenge(&answer), "", "{path}: another token would not help");
    }
}

#[tokio::test]
async fn rules_are_chosen_by_method_and_host() {
    let stage = stage().await;
    let scene = &stage.scene;
    let read = scene.idp.token();
    let write = stage
        .mint(|claims| claims["resource_access"]["inventory-service"]["roles"] = json!(["inventory:write"]));
    for (method, by_reader, by_writer) in
        [("GET", 200, 403), ("DELETE", 200, 403), ("POST", 403, 200), ("PUT", 403, 200), ("get", 200, 403)]
    {
        let request = scene.request(method, "/inventory/items");
        let as_reader = request.clone().bearer(&read).try_send().await;
        assert!(
            as_reader.as_ref().is_ok_and(|answer| answer.status == by_reader) || method == "get",
            "{method}: {as_reader:?}"
        );
        let as_writer = request.bearer(&write).try_send().await;
        assert!(
            as_writer.as_ref().is_ok_and(|answer| answer.status == by_writer) || method == "get",
            "{method}: {as_writer:?}"
        );
    }
    let operator = stage.mint(|claims| claims["realm_access"] = json!({ "roles": ["operator"] }));
    for (host, status) in [
        ("admin.example.com", 403),
        ("ADMIN.example.com:8443", 403),
        ("admin.example.com.", 400),
        ("admin.example.com:", 400),
        ("admin.example.com:+1", 400),
        ("a.open.example.com", 200),
        ("open.example.com", 403),
        ("a.open.example.com.evil.org", 403),
        ("xopen.example.com", 403),
    ] {
        let answer = scene.get("/elsewhere").header("host", host).bearer(&read).send().await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
    }
    let answer = scene.get("/elsewhere").header("host", "admin.example.com").bearer(&operator).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn no_spelling_of_a_path_slips_past_its_rule() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    let table = [
        (
            200,
            "",
            &[
                "/inventory/items",
                "/inventory",
                "/inventory/",
                "/inventory/administrator",
                "/inventory?/../admin",
            ][..],
        ),
        (
            200,
            "",
            &[
                "/public/x",
                "/public",
                "/public//x",
                "/public/%70",
                "/public/a;b=c/x",
                "/public/a%2Fb",
                "/public/x/../y",
            ],
        ),
        (
            403,
            "required role of client inventory-service: inventory:admin",
            &[
                "/inventory/admin",
                "/inventory/admin/",
                "/inventory/admin?x",
                "/inventory/admin/x;y",
                "/inventory/admin/%zz",
            ],
        ),
        (
            400,
            "ambiguous request path",
            &[
                "//public",
                "/%70ublic",
                "/public;a=b/x",
                "/orders/../public",
                "/INVENTORY/items",
                "/inventory/ADMIN",
                "/inventory/admin/..;/items",
                "/inventory/admin/..%3b/items",
                "//inventory/admin",
                "/inventory//admin",
                "/inventory/%61dmin",
                "/inventory/%61%64%6D%69%6e/x",
                "/inventory/./admin",
                "/inventory/x/../admin",
                "/inventory/x/%2e%2e/admin",
                "/inventory/x/..;/admin",
                "/inventory/admin;x",
                "/inventory;a/admin;b=c/d",
                "/inventory/admin%3bx",
                "/public/../inventory/admin",
                "/public/..;x/inventory/admin",
                "/public/%2e./inventory/admin",
                "/%2e/inventory/admin",
                "/inventory%2fadmin",
                "/inventory%2Fadmin",
                "/inventory%5cadmin",
                "/inventory\\admin",
                "/public\\..\\inventory\\admin",
                "/public/%2e%2e%2finventory",
                "/public/%252e%252e/inventory/admin",
                "/inventory/%2561dmin",
                "/public/../../inventory",
                "/inventory/admin%00",
                "/inventory/%0aadmin",
            ],
        ),
    ];
    for (status, message, paths) in table {
        for path in paths {
            for request in [stage.scene.get(path), stage.scene.get(path).http2()] {
                let Ok(answer) = request.bearer(&token).try_send().await else {
                    // The HTTP/2 client itself may refuse what is no path.
                    continue;
                };
                assert_eq!(answer.status, status, "{path}: {answer:?}");
                if status == 200 {
                    assert_eq!(answer.json()["path"], *path, "forwarded as it came");
                } else {
                    assert_eq!(answer.json()["message"], message, "{path}");
                    assert!(stage.scene.seen(path).is_empty(), "{path} has reached the service");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_is_judged_by_its_own_host_and_path() {
    let stage = stage().await;
    let address = stage.scene.envoy.address("main");
    for (line, status) in [
        (format!("GET http://{address}/inventory/admin HTTP/1.1"), 403),
        (format!("GET http://{address}/public/../inventory/admin HTTP/1.1"), 400),
        ("GET http://admin.example.com/public HTTP/1.1".to_owned(), 403),
        ("GET http://a.open.example.com/inventory/admin?open HTTP/1.1".to_owned(), 200),
    ] {
        let mut connection = Connection::open(&address).await.unwrap();
        let (host, token) = ("host: public.example.com", stage.scene.idp.token());
        let head = format!("{line}\r\n{host}\r\nauthorization: Bearer {token}\r\n\r\n");
        connection.write(head.as_bytes()).await.unwrap();
        let answer = connection.read(false).await.unwrap();
        assert_eq!(answer.status, status, "{line}: {answer:?}");
    }
    let mut connection = Connection::open(&address).await.unwrap();
    connection.write(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = connection.read(false).await.unwrap();
    assert!((400..500).contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_are_handled_as_bytes() {
    let stage = stage().await;
    let token = stage.scene.idp.token();
    for value in [&b"Bearer \xff\xfe"[..], b"Bearer caf\xe9.x.y", b"\xc3\x28", b"Bearer \xf0\x9f\x92\xa9"] {
        let answer = stage.scene.get("/inventory").header("authorization", value).send().await;
        assert_eq!(answer.status, 401, "{}: {answer:?}", value.escape_ascii());
    }
    let path = "/inventory/items?bytes";
    let odd =
        stage.scene.get(path).bearer(&token).header("x-odd", b"caf\xe9 \xff").header("x-subject", b"\xfe");
    let answer = odd.send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = stage.scene.seen(path).pop().unwrap();
    let of =
        |name: &str| seen.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!((of("x-odd"), of("x-subject")), (Some(b"caf\xe9 \xff".to_vec()), None));
    let hosts = stage.scene.get("/inventory").bearer(&token).header("host", b"caf\xe9").send().await;
    assert!([200, 400].contains(&hosts.status), "Envoy may refuse it, we do not fall over it: {hosts:?}");
    let log = stage.scene.envoy.logs();
    assert!(!log.contains("panicked") && !log.contains("Function: proxy_on"), "the VM has fallen:\n{log}");
}

#[tokio::test]
async fn a_header_section_as_large_as_envoy_takes_is_judged_as_any_other() {
    let stage = stage().await;
    let large = "x".repeat(57 * 1024);
    let request = stage.scene.get("/inventory").header("x-large", &large);
    assert_eq!(request.clone().bearer(stage.scene.idp.token()).send().await.status, 200);
    assert_eq!(request.send().await.status, 401);
    let token = stage.scene.get("/inventory").bearer(&large).send().await;
    assert_eq!((token.status, &token.json()["reason"]), (401, &json!("too_large")));
    let many = (0..80)
        .fold(stage.scene.get("/inventory"), |request, number| request.header(format!("x-{number}"), "y"));
    assert_eq!(many.bearer(stage.scene.idp.token()).send().await.status, 200);
}
