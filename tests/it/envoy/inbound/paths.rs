//! Rules for paths with placeholders, and for gRPC methods.

use super::stage;
use serde_json::json;

#[tokio::test]
async fn a_path_with_placeholders_is_matched_by_its_rule_and_a_similar_path_by_another() {
    let stage = stage().await;
    let read = stage.scene.idp.token();
    let write = stage
        .mint(|claims| claims["resource_access"]["inventory-service"]["roles"] = json!(["inventory:write"]));
    for (path, by_reader, by_writer) in [
        ("/shop/42/items", 403, 200),
        ("/shop/42/items/", 403, 200),
        ("/shop/42/items?x=1", 403, 200),
        ("/shop/%34%32/items", 403, 200),
        ("/shop/42;v=1/items", 400, 400),
        ("//shop/42/./items", 400, 400),
        ("/shop/42/%69tems", 400, 400),
        ("/shop/42/items;w", 400, 400),
        ("/shop/x/../42/items", 400, 400),
        ("/Shop/42/items", 400, 400),
        ("/shop", 200, 403),
        ("/shop/", 200, 403),
        ("/shop/items", 200, 403),
        ("/shop//x", 200, 403),
        ("/shop/42/items/7", 200, 403),
        ("/shop/42/43/items", 200, 403),
        ("/shop/4%2f2/items", 400, 400),
        ("/shop/42%c0%af1/items", 400, 400),
        ("/shopper/42/items", 403, 403),
    ] {
        for (token, status) in [(&read, by_reader), (&write, by_writer)] {
            let answer = stage.scene.get(path).bearer(token).send().await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            if status == 200 {
                assert_eq!(answer.json()["path"], path, "forwarded as it came");
            }
        }
    }
}

#[tokio::test]
async fn a_grpc_method_and_a_grpc_service_are_a_path_and_a_prefix() {
    let stage = stage().await;
    for (path, status) in [
        ("/shop.v1.Orders/Get", None),
        ("/shop.v1.Orders/Delete", Some("7")),
        ("/shop.v1.OrdersAdmin/Get", Some("7")),
        ("/shop.v1.orders/Get", Some("3")),
    ] {
        let call = stage.scene.request("POST", path).http2().header("content-type", "application/grpc");
        let known = call.clone().bearer(stage.scene.idp.token()).send().await;
        assert_eq!(known.header("grpc-status").as_deref(), status, "{path}: {known:?}");
        assert_eq!(stage.scene.seen(path).len(), usize::from(status.is_none()), "{path}");
        let stranger = call.send().await;
        let status = if status.is_none() || path.ends_with("Delete") { Some("16") } else { status };
        assert_eq!(stranger.header("grpc-status").as_deref(), status, "{path}: {stranger:?}");
    }
}
