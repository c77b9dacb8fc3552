// Envoy Gateway's custom resource definitions and those of the Gateway API, read as files. A module of its own: nothing is built
// from it, and its dependencies would raise those of the tools that are.
module m2m-auth/tools/envoy-gateway

go 1.25.0

require github.com/envoyproxy/gateway v1.9.0 // indirect
