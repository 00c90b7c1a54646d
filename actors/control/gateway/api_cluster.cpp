// The gateway's API: nodes, queues and policy, and what is known of the gateway itself.
#include "actors/control/gateway/api.h"
#include "actors/control/gateway/json.h"
#include "actors/control/gateway/openapi.h"
#include "actors/control/gateway/pages.h"

namespace crabcast::gateway {
namespace {

constexpr auto kAlive = std::chrono::seconds(2);  // a probe does not wait longer

Response text(int status, const std::string& body) {
  return {.status = status, .type = "text/plain", .body = body};
}

}  // namespace

Response Api::list_nodes(const Call&) {
  return json_of(ask(pb::ListNodes{}));
}

Response Api::drain_node(const Call& call) {
  pb::DrainNode body;
  body.set_node(call.text("node"));
  body.set_drain(call.flag("drain"));
  body.set_reason(call.text("reason"));
  return json_of(ask(body));
}

Response Api::list_queues(const Call&) {
  return json_of(ask(pb::ListQueues{}));
}

Response Api::get_policy(const Call&) {
  return json_of(ask(pb::GetPolicy{}));
}

Response Api::put_policy(const Call& call) {
  pb::LoadPolicy body;
  body.set_yaml(call.text("yaml"));
  return json_of(ask(body));
}

Response Api::who_am_i(const Call& call) {
  Response response;
  response.body = dump({{"name", call.caller.name},
                        {"owner", call.caller.owner},
                        {"role", to_string(call.caller.role)},
                        {"version", options_.version}});
  return response;
}

Response Api::openapi_file(const Call&) {
  static const std::string file = openapi();
  Response response;
  response.body = file;
  return response;
}

Response Api::healthz(const Call&) {
  return text(200, "ok\n");
}

Response Api::readyz(const Call&) {
  if (options_.is_ready && !options_.is_ready())
    return text(503, "the controller recovers: agents and coordinators come back\n");
  if (const auto answer = ask(pb::ListNodes{}, kAlive); !answer)
    return text(503, answer.error().message + "\n");
  return text(200, "ready\n");
}

Response Api::metrics_text(const Call&) {
  const auto state = cluster_state();
  if (!state) return error_response(state.error());
  return {.status = 200,
          .type = "text/plain; version=0.0.4; charset=utf-8",
          .body = metrics_.text(*state, Clock::now(), unix_ms_now())};
}

// What the metrics are made of. A controller that knows no queues yet is no reason to show nothing.
Result<ClusterState> Api::cluster_state() {
  ClusterState state;
  const auto jobs = ask(pb::ListJobs{});
  if (!jobs) return fail(jobs.error());
  const auto& open = (*jobs)->job_list().jobs();
  state.jobs = {open.begin(), open.end()};
  for (const auto& id : metrics_.ended_since(state)) {
    pb::GetJob body;
    body.set_job(id);
    if (const auto job = ask(body)) state.jobs.push_back((*job)->job_status());
  }
  const auto nodes = ask(pb::ListNodes{});
  if (!nodes) return fail(nodes.error());
  const auto& all = (*nodes)->node_list().nodes();
  state.nodes = {all.begin(), all.end()};
  const auto queues = ask(pb::ListQueues{});
  if (!queues) return fail(queues.error());
  const auto& list = (*queues)->queue_list().queues();
  state.queues = {list.begin(), list.end()};
  return state;
}

Response Api::page(const Call& call) {
  const std::string file = call.has("file") ? call.text("file") : "index.html";
  const Page* page = find_page(file);
  if (!page) return error_response(404, "not_found", "the dashboard has no such file");
  Response response;
  response.type = page->type;
  response.headers.emplace_back("ETag", page->etag);
  response.headers.emplace_back("Cache-Control", "no-cache");
  if (call.request.header("if-none-match") == page->etag) {
    response.status = 304;
    return response;
  }
  response.body = page->content;
  return response;
}

}  // namespace crabcast::gateway
