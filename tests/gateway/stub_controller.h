// A controller behind `Ask` that a test writes, and requests without a socket.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "actors/control/gateway/api.h"
#include "protocol/envelopes.h"
#include "storage/files.h"
#include "tests/support/program.h"

namespace crabcast::gateway {

// Two jobs, of alice and bob, one node, one queue, and events that a test adds.
class StubController {
 public:
  StubController() {
    add_job("alice-1", "alice", pb::JOB_RUNNING);
    add_job("bob-2", "bob", pb::JOB_PENDING);
  }
  void add_job(const std::string& id, const std::string& owner, pb::JobState state) {
    const std::scoped_lock lock(mutex_);
    auto& job = jobs_[id];
    job.set_job(id);
    job.set_name(id.substr(0, id.find('-')));
    job.set_owner(owner);
    job.set_queue("research/" + owner);
    job.set_state(state);
    job.set_submitted_unix_ms(1000 + static_cast<std::int64_t>(jobs_.size()));
  }
  pb::JobStatus& job(const std::string& id) { return jobs_.at(id); }
  void add_event(const std::string& job, const std::string& kind, bool incident = false) {
    const std::scoped_lock lock(mutex_);
    pb::Event event;
    event.set_seq(events_.size() + 1);
    event.set_unix_ms(1'700'000'000'000);
    event.set_kind(kind);
    event.set_job(job);
    if (incident) event.mutable_incident()->set_culprit("worker-0");
    events_.push_back(event);
  }
  void fail_with(const Error& error) {
    const std::scoped_lock lock(mutex_);
    failure_ = error;
  }
  int asked(const std::string& type) {
    const std::scoped_lock lock(mutex_);
    return asked_[type];
  }
  pb::SubmitJob submitted() {
    const std::scoped_lock lock(mutex_);
    return submitted_;
  }

  Result<Answer> ask(const google::protobuf::Message& body) {
    const std::scoped_lock lock(mutex_);
    ++asked_[body.GetDescriptor()->name()];
    if (failure_) return fail(*failure_);
    auto request = std::make_shared<pb::Envelope>();
    set_body(*request, body);
    auto answer = std::make_shared<pb::Envelope>();
    CRABCAST_TRY(reply(*request, *answer));
    return answer;
  }

 private:
  Status known(const std::string& id) const {
    if (jobs_.contains(id)) return {};
    return fail(Errc::not_found, "no job is named '" + id + "'");
  }
  Status reply(const pb::Envelope& request, pb::Envelope& answer);
  Status send_events(const pb::GetEvents& query, pb::EventList& list) const;

  std::mutex mutex_;
  std::map<std::string, pb::JobStatus> jobs_;
  std::vector<pb::Event> events_;
  std::map<std::string, int> asked_;
  std::optional<Error> failure_;
  pb::SubmitJob submitted_;
};

inline Status StubController::send_events(const pb::GetEvents& query, pb::EventList& list) const {
  if (!query.job().empty()) CRABCAST_TRY(known(query.job()));
  for (const auto& event : events_)
    if (event.seq() > query.after_seq() && (query.job().empty() || event.job() == query.job()) &&
        list.events_size() < static_cast<int>(query.limit()))
      *list.add_events() = event;
  return {};
}

inline Status StubController::reply(const pb::Envelope& request, pb::Envelope& answer) {
  using E = pb::Envelope;
  switch (request.body_case()) {
    case E::kListJobs:
      answer.mutable_job_list();
      for (const auto& [id, job] : jobs_)
        if (request.list_jobs().all() || job.state() < pb::JOB_STOPPED)
          *answer.mutable_job_list()->add_jobs() = job;
      return {};
    case E::kGetJob:
      CRABCAST_TRY(known(request.get_job().job()));
      *answer.mutable_job_status() = jobs_.at(request.get_job().job());
      return {};
    case E::kSubmitJob:
      submitted_ = request.submit_job();
      answer.mutable_job_accepted()->set_job("new-3");
      return {};
    case E::kResumeJob:
      CRABCAST_TRY(known(request.resume_job().job()));
      answer.mutable_job_accepted()->set_job(request.resume_job().job());
      return {};
    case E::kGetEvents:
      return send_events(request.get_events(), *answer.mutable_event_list());
    case E::kListNodes:
      answer.mutable_node_list()->add_nodes()->set_node("node-a");
      answer.mutable_node_list()->mutable_nodes(0)->mutable_total()->set_gpus(8);
      return {};
    case E::kListQueues:
      answer.mutable_queue_list()->add_queues()->set_queue("research");
      answer.mutable_queue_list()->mutable_queues(0)->mutable_used()->set_gpus(3);
      return {};
    case E::kListActors:
      if (!request.list_actors().job().empty()) CRABCAST_TRY(known(request.list_actors().job()));
      answer.mutable_actor_list();
      return {};
    case E::kGetSeries:
      CRABCAST_TRY(known(request.get_series().job()));
      answer.mutable_job_series()->set_job(request.get_series().job());
      return {};
    case E::kGetSpec:
      CRABCAST_TRY(known(request.get_spec().job()));
      answer.mutable_spec_text()->set_yaml("crabcast: 1\n");
      return {};
    case E::kExplainJob:
      CRABCAST_TRY(known(request.explain_job().job()));
      answer.mutable_explanation()->set_text("it waits");
      return {};
    case E::kGetLog:
      CRABCAST_TRY(known(request.get_log().job()));
      answer.mutable_log_piece()->set_text("a line\n\xff<script>");
      return {};
    case E::kGetPolicy:
      answer.mutable_policy_text()->set_yaml("queues: {}\n");
      return {};
    case E::kCancelJob:
      CRABCAST_TRY(known(request.cancel_job().job()));
      answer.mutable_done();
      return {};
    case E::kHoldJob:
      return fail(Errc::unsupported, "a controller takes no such message");
    case E::kScaleJob:
    case E::kDrainNode:
    case E::kLoadPolicy:
      answer.mutable_done();
      return {};
    default:
      return fail(Errc::unsupported, "a controller takes no such message");
  }
}

class StubAsk final : public Ask {
 public:
  explicit StubAsk(std::shared_ptr<StubController> controller)
      : controller_(std::move(controller)) {}
  Result<Answer> ask(const google::protobuf::Message& body, Duration) override {
    return controller_->ask(body);
  }

 private:
  std::shared_ptr<StubController> controller_;
};

inline constexpr const char* kSpec =
    "crabcast: 1\nname: bob\nmodel: {base: nano}\ndata: {corpus: {synthetic: {seed: 1}}}\n";

inline Request request(const std::string& method, const std::string& target,
                       const std::string& token = "", const std::string& body = "") {
  Request request;
  request.method = method;
  request.target = target;
  request.address = "127.0.0.1";
  request.headers["host"] = "127.0.0.1:8080";
  if (!token.empty()) request.headers["authorization"] = "Bearer " + token;
  if (!body.empty()) request.headers["content-type"] = "application/json";
  request.body = body;
  EXPECT_TRUE(split_target(request)) << target;
  return request;
}

// Tokens of each role; owners carol (viewer), alice (submitter) and root (admin).
class Tokens {
 public:
  explicit Tokens(std::filesystem::path file) : file_(std::move(file)) {}
  std::string add(const std::string& name, Role role) {
    const auto secret = make_token().value();
    list_.push_back({name, name, role, hash_token(secret), 0});
    EXPECT_TRUE(storage::replace_file(file_, tokens_text(list_), 0600));
    return secret;
  }
  void revoke(const std::string& name) {
    std::erase_if(list_, [&](const Token& token) { return token.name == name; });
    EXPECT_TRUE(storage::replace_file(file_, tokens_text(list_), 0600));
  }

 private:
  std::filesystem::path file_;
  std::vector<Token> list_;
};

}  // namespace crabcast::gateway
