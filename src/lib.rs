//! Machine-to-machine authentication for Envoy and Istio.
