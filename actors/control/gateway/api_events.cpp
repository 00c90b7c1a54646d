// The gateway's API: events and incidents, in pages and as a stream.
#include "actors/control/gateway/api.h"
#include "actors/control/gateway/json.h"
#include "protocol/format.h"

namespace crabcast::gateway {
namespace {

constexpr std::uint64_t kPage = 200;
constexpr int kPagesAtOnce = 20;  // that a search for incidents reads before it answers
constexpr std::uint32_t kPageOfSearch = 1000;
constexpr auto kStillHere = std::chrono::seconds(15);
constexpr auto kPatience = std::chrono::seconds(1);

pb::GetEvents query(const std::string& job, std::uint64_t after, std::uint64_t limit) {
  pb::GetEvents body;
  body.set_job(job);
  body.set_after_seq(after);
  body.set_limit(static_cast<std::uint32_t>(limit));
  return body;
}

Response page_of(nlohmann::json events, std::uint64_t next, bool more) {
  Response response;
  response.body = dump({{"events", std::move(events)}, {"next", next}, {"more", more}});
  return response;
}

std::string as_message(const pb::Event& event) {
  return "id: " + std::to_string(event.seq()) + "\ndata: " + dump(to_json(event)) + "\n\n";
}

std::string as_end(const std::string& reason) {
  return "event: end\ndata: " + dump({{"reason", reason}}) + "\n\n";
}

}  // namespace

// One client's stream of events: where it is, and whose it is.
struct Api::Watcher {
  Caller caller;
  std::string job;
  std::uint64_t seen = 0;
  bool caught_up = false;  // since then it is expected to keep pace
  bool greeted = false;
  TimePoint written = Clock::now();
  std::shared_ptr<void> place;  // among the streams that there may be
};

Response Api::list_events(const Call& call) {
  const auto after = call.whole("after", 0), limit = call.whole("limit", kPage);
  const auto answer = ask(query(call.text("job"), after, limit));
  if (!answer) return error_response(answer.error());
  const auto& events = (*answer)->event_list().events();
  auto list = nlohmann::json::array();
  for (const auto& event : events) list.push_back(to_json(event));
  const bool more = static_cast<std::uint64_t>(events.size()) == limit;
  return page_of(std::move(list), events.empty() ? after : events.rbegin()->seq(), more);
}

Response Api::list_incidents(const Call& call) {
  const auto limit = call.whole("limit", kPage);
  auto list = nlohmann::json::array();
  std::uint64_t next = call.whole("after", 0);
  for (int page = 0; page < kPagesAtOnce; ++page) {
    const auto answer = ask(query(call.text("job"), next, kPageOfSearch));
    if (!answer) return error_response(answer.error());
    const auto& events = (*answer)->event_list().events();
    for (const auto& event : events) {
      next = event.seq();
      if (event.has_incident()) list.push_back(to_json(event));
      if (list.size() == limit) return page_of(std::move(list), next, true);
    }
    if (events.size() < static_cast<int>(kPageOfSearch))
      return page_of(std::move(list), next, false);
  }
  return page_of(std::move(list), next, true);
}

// A place among the streams, given back when the pointer goes. Null: there is none.
std::shared_ptr<void> Api::take_place(const std::string& who) {
  const std::scoped_lock lock(streams_mutex_);
  std::size_t all = 0;
  for (const auto& [name, count] : streams_) all += count;
  if (all >= options_.most_streams || streams_[who] >= options_.most_streams_each) return nullptr;
  ++streams_[who];
  metrics_.set_streams(all + 1);
  return {this, [this, who](void*) {
            const std::scoped_lock guard(streams_mutex_);
            if (--streams_[who] == 0) streams_.erase(who);
            std::size_t left = 0;
            for (const auto& [name, count] : streams_) left += count;
            metrics_.set_streams(left);
          }};
}

Response Api::stream_events(const Call& call) {
  auto watcher = std::make_shared<Watcher>();
  watcher->caller = call.caller;
  watcher->job = call.text("job");
  watcher->seen = call.whole("after", feed_.newest());
  if (const auto last = call.request.header("last-event-id"); !last.empty()) {
    const auto seq = parse_whole(last);
    if (!seq) return error_response(400, "invalid_argument", "Last-Event-ID is the id of an event");
    watcher->seen = *seq;
  }
  if (!feed_.started())
    return error_response({Errc::unavailable, "the controller's events cannot be read yet"});
  watcher->place = take_place(call.caller.name.empty() ? call.request.address : call.caller.name);
  if (!watcher->place)
    return error_response({Errc::queue_full, "too many streams of events are open; close some"});
  Response response;
  response.type = "text/event-stream";
  response.close = true;
  response.stream = [this, watcher](const Sink& sink) { return go_on(*watcher, sink); };
  return response;
}

bool Api::go_on(Watcher& watcher, const Sink& sink) {
  const auto end = [&](const std::string& reason, const std::string& label) {
    metrics_.stream_ended(label);
    sink(as_end(reason));
    return false;
  };
  if (!watcher.greeted) {
    watcher.greeted = true;
    return sink("retry: 2000\n: events after " + std::to_string(watcher.seen) + "\n\n");
  }
  if (!tokens_.still_valid(watcher.caller))
    return end("the token was revoked or changed", "revoked");
  auto batch = feed_.after(watcher.seen, kPatience);
  if (feed_.stopped()) return end("the controller ends", "shutdown");
  if (batch.missed && watcher.caught_up)
    return end("you read too slowly; come back with Last-Event-ID " + std::to_string(watcher.seen),
               "slow");
  if (batch.missed) {  // it resumes from long ago
    const auto answer = ask(query(watcher.job, watcher.seen, kPage));
    if (!answer) return end(answer.error().message, "controller");
    for (const auto& event : (*answer)->event_list().events())
      batch.events.push_back(std::make_shared<const pb::Event>(event));
    if (batch.events.empty()) watcher.seen = feed_.newest();
  } else {
    watcher.caught_up = true;
  }
  std::string text;
  for (const auto& event : batch.events) {
    watcher.seen = event->seq();
    if (watcher.job.empty() || event->job() == watcher.job) text += as_message(*event);
  }
  if (text.empty() && Clock::now() - watcher.written > kStillHere) text = ": still here\n\n";
  if (text.empty()) return true;
  watcher.written = Clock::now();
  if (sink(text)) return true;
  metrics_.stream_ended("slow or gone");
  return false;
}

}  // namespace crabcast::gateway
