//! Rules in force: real daemon, real tag, real clients, upstreams with TLS. What a rule refuses is refused in the client's
//! own protocol and does not reach the upstream; what changes at a reload changes for what is under way, too.
//!
//! Where each matcher, mode, limit and tool is seen end to end (`identity`, `agents`, `containers` and `providers` are test
//! programs of their own beside this one):
//!
//! | what | test |
//! |---|---|
//! | `tags`, `users`, `exes` | `refused::each_key_of_a_caller` |
//! | `units`, `containers` by id | `matchers::units_containers_hours_protocols_and_conditions` |
//! | `containers` by image | `containers`, of podman |
//! | `exe_sha256` | `programs` |
//! | `identities`, `groups` | `identity::groups_decide_wherever_the_token_comes_from` |
//! | `issuers`, `claims` | the same, `claims_decide_and_are_replayed` |
//! | a token in a variable, a file, `sluice run`, the request | `identity` |
//! | `protocols` | `matchers` (http/1.1, h2), `refused` (http), `messages` (websocket), `bodies::methods_of_grpc`, `reload` (tunnel) |
//! | `hosts` exact and `*.suffix`, `ports` | `refused::each_key_of_a_request` |
//! | `addresses` | `refused::an_address_is_refused_before_it_is_dialled`, `plain`, `matchers` |
//! | `methods`, `paths`, `query`, `headers` | `refused::each_key_of_a_request` |
//! | `windows` | `matchers` |
//! | `when` over caller, identity, head, time | `matchers` |
//! | `when` over JSON, form, multipart, GraphQL, gRPC | `bodies::each_shape_of_a_body`, `bodies::methods_of_grpc` |
//! | `request.llm`, `prompt_words`, `prompt_patterns` | `bodies::requests_to_models_whoever_serves_them` |
//! | `message.*`, both ways | `messages` |
//! | bodies with a content coding, too long, waited for | `bodies::content_codings…`, `matchers::whoever_waits…` |
//! | `mode`: whole, tag, rule | `refused::observing_sends…`, `refused::a_tag_may_be_observed…`, `refused::each_key_of_a_request` |
//! | `limit`: requests, bytes, tokens, concurrent | `limits` (by rule, tag), `identity` (by claim, by identity), `agents` (the SDK's own error) |
//! | limits over a killed gate, a restart, a reload | `limits::counts_outlive…`, `limits::a_reload…` |
//! | `verdict = "hold"` is refused with its reason | `tools::what_is_held…` |
//! | `policy check` with `[[test]]`, `policy explain` | `tools` |
//! | `policy suggest`, `policy replay` | `suggest`, `identity` (claims) |
//! | a reload judges what is under way | `reload`, `messages::rules_that_come_later…` |

mod bodies;
mod limits;
mod matchers;
mod messages;
mod plain;
mod programs;
mod refused;
mod reload;
mod rig;
mod suggest;
mod tools;
