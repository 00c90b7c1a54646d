// What the gateway makes of a request: who asks, whether they may, and the controller's answer as
// JSON. Every request becomes one question to the controller, or a few; nothing is decided here.
//
// Concurrency: all methods from any thread, at the same time.
// Errors are {"error": {"code": NAME, "message": TEXT}}, with the status of `status_of`.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "actors/control/gateway/ask.h"
#include "actors/control/gateway/event_feed.h"
#include "actors/control/gateway/http.h"
#include "actors/control/gateway/metrics.h"
#include "actors/control/gateway/rate_limit.h"
#include "actors/control/gateway/routes.h"

namespace crabcast::gateway {

struct ApiOptions {
  bool loopback = true;            // it listens on a loopback address only
  std::filesystem::path tokens;    // file
  std::function<bool()> is_ready;  // the controller has recovered
  std::string version;
  Rate rate = {50, 200};              // of each token, or address where there are no tokens
  Rate failed_logins = {10, 100};     // of each address
  std::size_t most_streams = 64;      // of events
  std::size_t most_streams_each = 8;  // of one token, or address
};

int status_of(Errc code);
Response error_response(const Error& error);
Response error_response(int status, std::string_view code, const std::string& message);

class Api {
 public:
  Api(ApiOptions options, std::unique_ptr<Ask> ask);
  ~Api();

  // A request that was let in, before its body was read; or why it was not.
  struct Admission {
    const Route* route = nullptr;
    Caller caller;
    Values values;
    std::optional<Response> refusal;
  };
  Admission admit(const Request& request);
  Response respond(const Request& request, const Admission& admission);
  // Both, for a request whose body is there.
  Response handle(const Request& request);

  Metrics& metrics() { return metrics_; }
  void stop();  // streams end; what comes later is refused

  // Handlers, in the order of the table of routes.
  Response list_jobs(const Call& call);  // api_jobs.cpp
  Response submit_job(const Call& call);
  Response get_job(const Call& call);
  Response cancel_job(const Call& call);
  Response pause_job(const Call& call);
  Response resume_job(const Call& call);
  Response scale_job(const Call& call);
  Response hold_job(const Call& call);
  Response release_job(const Call& call);
  Response explain_job(const Call& call);
  Response job_spec(const Call& call);
  Response job_series(const Call& call);
  Response job_checkpoints(const Call& call);
  Response job_actors(const Call& call);
  Response job_log(const Call& call);
  Response list_events(const Call& call);  // api_events.cpp
  Response list_incidents(const Call& call);
  Response stream_events(const Call& call);
  Response list_nodes(const Call& call);  // api_cluster.cpp
  Response drain_node(const Call& call);
  Response list_queues(const Call& call);
  Response get_policy(const Call& call);
  Response put_policy(const Call& call);
  Response who_am_i(const Call& call);
  Response openapi_file(const Call& call);
  Response healthz(const Call& call);
  Response readyz(const Call& call);
  Response metrics_text(const Call& call);
  Response page(const Call& call);

 private:
  struct Snapshot;  // of the job list, for pages of it
  struct Watcher;   // of events

  Result<Answer> ask(const google::protobuf::Message& body,
                     Duration timeout = std::chrono::seconds(10));
  // The answer's body as JSON.
  Response json_of(const Result<Answer>& answer, int status = 200);
  Status may_resume(const Call& call);
  Status may_act_on(const Caller& caller, const std::string& job);
  Response act(const Call& call, const google::protobuf::Message& body);
  std::optional<Response> refuse_origin(const Request& request);
  Result<Caller> identify(const Request& request);
  Result<std::shared_ptr<const pb::JobList>> all_jobs();
  Result<ClusterState> cluster_state();
  std::shared_ptr<void> take_place(const std::string& who);
  // Writes what is new for it; false when the stream ends.
  bool go_on(Watcher& watcher, const Sink& sink);
  Response cancel(const Call& call, bool keep);
  Response hold(const Call& call, bool hold);

  const ApiOptions options_;
  Metrics metrics_;
  std::unique_ptr<Ask> ask_;
  TokenBook tokens_;
  RateLimit rate_, failed_logins_;
  EventFeed feed_;
  std::unique_ptr<Snapshot> snapshot_;
  std::mutex streams_mutex_;
  std::map<std::string, std::size_t> streams_;  // by token or address
};

}  // namespace crabcast::gateway
