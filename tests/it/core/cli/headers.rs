//! `explain --header`: a header, or a file of header lines, whose content no error prints.

use super::{Folder, Ran, root, run, run_with_input};

const BASE: [&str; 8] = [
    "explain",
    "--config",
    "tests/data/cli/config.yaml",
    "--jwks",
    "keycloak=tests/data/cli/keys.json",
    "--now",
    "1800000000",
    "--path=/inventory/items",
];

fn authorization() -> String {
    let path = root().join("tests/data/cli/authorization.txt");
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn explain(headers: &[&str]) -> Ran {
    let more: Vec<&str> = headers.iter().flat_map(|header| ["--header", header]).collect();
    run(&[&BASE[..], &more].concat())
}

#[test]
fn a_file_or_the_standard_input_has_the_effect_of_the_headers_in_it() {
    let (line, folder) = (authorization(), Folder::new());
    let expected = explain(&[&line]);
    assert_eq!(expected.code, 1);
    assert!(expected.says.contains("signature     ok EdDSA"), "{expected:?}");
    for content in [
        line.clone(),
        format!("{line}\n"),
        format!("\r\n{line}\r\n\r\n"),
        format!("\u{feff}{line}\n"),
        format!("accept: */*\nAUTHORIZATION :\t{}\n  \nx-empty:\n", line.split_once(": ").unwrap().1),
    ] {
        let file = format!("@{}", folder.file("headers.txt", &content));
        assert_eq!(explain(&[&file]), expected, "{content}");
        let arguments = [&BASE[..], &["--header", "@-"]].concat();
        assert_eq!(run_with_input(&arguments, content.as_bytes()), expected, "{content}");
    }
    // Every line counts, and so does every option.
    let twice = format!("@{}", folder.file("twice.txt", format!("{line}\n{line}\n")));
    let once = format!("@{}", folder.file("once.txt", &line));
    for headers in [&[twice.as_str()][..], &[&once, &once], &[&once, &line]] {
        let ran = explain(headers);
        assert!(ran.says.contains("refused: 400 Invalid request (multiple_credentials)"), "{ran:?}");
    }
}

#[test]
fn a_file_that_has_no_header_lines_is_an_error_that_does_not_print_it() {
    let folder = Folder::new();
    let name = "expected NAME: VALUE such as \"authorization: Bearer …\"";
    let large = format!("x: {}\n", "hush".repeat(20_000));
    let cases: [(&[u8], &str); 13] = [
        (b"", "empty, expected lines NAME: VALUE"),
        (b"\r\n \n\t\n", "empty, expected lines NAME: VALUE"),
        (b"hush.hush.hush\n", &format!("line 1: without a header name, {name}")),
        (b"x: y\n\n: hush\n", &format!("line 3: without a header name, {name}")),
        (b"GET /hush HTTP/1.1\r\nhost: a\r\n", &format!("line 1: without a header name, {name}")),
        (b":path: /hush", &format!("line 1: without a header name, {name}")),
        (
            b"x: y\n hush: z",
            "line 2: starts with a space, expected NAME: VALUE (folded lines are not supported)",
        ),
        (b"hush hush: y", "line 1: a header name with characters that no name has, expected NAME: VALUE"),
        (b"x: hush\x07", "line 1: a control character in the value, expected NAME: VALUE"),
        (b"x: hush\rhush", "line 1: a control character in the value, expected NAME: VALUE"),
        (b"x: hush\xff\xfe", "not a text file (UTF-8), expected lines NAME: VALUE"),
        (b"x\0:\0 \0h\0u\0s\0h\0", "not a text file (UTF-8), expected lines NAME: VALUE"),
        (large.as_bytes(), "more than 65536 bytes, expected the header lines of one request"),
    ];
    for (content, why) in cases {
        let file = folder.file("hidden.txt", content);
        let ran = explain(&[&format!("@{file}")]);
        let complaint = format!("m2m-auth: --header @{file}: {why}\n");
        assert_eq!((ran.code, ran.says.as_str(), ran.complains), (2, "", complaint));
        let ran = run_with_input(&[&BASE[..], &["--header", "@-"]].concat(), content);
        assert_eq!((ran.code, ran.complains), (2, format!("m2m-auth: --header @-: {why}\n")));
    }
    let ran = explain(&["hush"]);
    assert_eq!(
        (ran.code, ran.complains),
        (2, format!("m2m-auth: --header: without a header name, {name}\n"))
    );
}

#[test]
fn a_file_that_cannot_be_read_and_an_input_that_is_read_twice_are_errors() {
    for (headers, why) in [
        (&["@/no/such/file"][..], "--header @/no/such/file: No such file or directory (os error 2)"),
        (&["@tests"], "--header @tests: Is a directory (os error 21)"),
        (&["@"], "--header @: no file name, expected @FILE, or @- for the standard input"),
    ] {
        let ran = explain(headers);
        assert_eq!((ran.code, ran.complains), (2, format!("m2m-auth: {why}\n")));
    }
    let why =
        "m2m-auth: --header @-: the standard input is already read by another option, expected a file\n";
    let ran = run_with_input(&[&BASE[..], &["--header", "@-", "--header", "@-"]].concat(), b"x: y\n");
    assert_eq!((ran.code, ran.complains.as_str()), (2, why));
    let config = std::fs::read(root().join("tests/data/cli/config.yaml")).unwrap();
    let ran = run_with_input(&["explain", "--config", "-", "--header", "@-"], &config);
    assert_eq!((ran.code, ran.complains.as_str()), (2, why));
}

#[test]
fn the_help_says_how_a_token_stays_off_the_command_line() {
    let help = run(&["explain", "--help"]).says;
    for part in [
        "@FILE",
        "@-",
        "curl -fsS ISSUER/.well-known/openid-configuration",
        "--jwks keycloak=keycloak.jwks.json",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    for command in ["check", "reasons"] {
        assert!(run(&[command, "--help"]).says.contains("m2m-auth explain --help"), "{command}");
    }
}
