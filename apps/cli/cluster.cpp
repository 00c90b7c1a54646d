// cancel, pause, resume, scale, hold, release, drain, explain, queues: what the controller is asked
// to do with jobs and nodes, and why it does what it does.
#include "apps/cli/client.h"
#include "apps/cli/output.h"
#include "apps/cli/verbs.h"
#include "protocol/clock.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;

// Asks the controller, and says `what` when it agreed.
Exit order(const Common& common, const google::protobuf::Message& body, const json& said,
           const std::string& what) {
  auto client = ControllerClient::connect(common);
  if (!client) return complain(client.error(), common.json);
  if (auto answer = (*client)->ask(body); !answer) return complain(answer.error(), common.json);
  if (common.json)
    print_json(said);
  else
    print_text(what + "\n");
  return Exit::ok;
}

std::string resources_text(const pb::Resources& amount) {
  return exact_number(amount.cpus()) + " CPUs, " + std::to_string(amount.gpus()) + " GPUs, " +
         format_bytes(amount.memory_bytes());
}

std::string share_text(double share) {
  char text[16];
  std::snprintf(text, sizeof text, "%.0f %%", share * 100);
  return text;
}

}  // namespace

Exit cancel(const Common& common, const std::string& job, bool keep) {
  pb::CancelJob body;
  body.set_job(job);
  body.set_keep(keep);
  return order(
      common, body, {{"job", job}, {"asked", keep ? "stop" : "cancel"}},
      keep ? job + " is asked to stop, with a checkpoint; crabcast resume " + job + " lets it go on"
           : job + " is cancelled");
}

Exit scale(const Common& common, const std::string& job, std::uint32_t workers) {
  pb::ScaleJob body;
  body.set_job(job);
  body.set_workers(workers);
  return order(common, body, {{"job", job}, {"workers", workers}},
               job + " goes on with " + std::to_string(workers) +
                   (workers == 1 ? " worker" : " workers, as far as there is room"));
}

Exit resume(const Common& common, const std::string& job) {
  pb::ResumeJob body;
  body.set_job(job);
  return order(common, body, {{"job", job}, {"asked", "resume"}}, job + " waits for its place");
}

Exit hold(const Common& common, const std::string& job, bool held) {
  pb::HoldJob body;
  body.set_job(job);
  body.set_hold(held);
  return order(
      common, body, {{"job", job}, {"held", held}},
      held ? job + " is not started before crabcast release " + job : job + " waits for its place");
}

Exit drain(const Common& common, const DrainOptions& options) {
  pb::DrainNode body;
  body.set_node(options.node);
  body.set_drain(!options.off);
  body.set_reason(options.reason);
  return order(common, body, {{"node", options.node}, {"draining", !options.off}},
               options.off ? options.node + " takes work again"
                           : options.node +
                                 " gets nothing new; what runs there moves away, with checkpoints");
}

Exit explain(const Common& common, const std::string& job) {
  auto client = ControllerClient::connect(common);
  if (!client) return complain(client.error(), common.json);
  pb::ExplainJob body;
  body.set_job(job);
  auto answer = (*client)->ask(body);
  if (!answer) return complain(answer.error(), common.json);
  const auto& explanation = answer->explanation();
  if (common.json) {
    json arithmetic = json::array();
    for (const auto& line : explanation.arithmetic()) arithmetic.push_back(line);
    json said = {{"job", job},
                 {"reason", explanation.reason()},
                 {"text", explanation.text()},
                 {"would_help", explanation.would_help()},
                 {"arithmetic", arithmetic}};
    if (explanation.estimated_start_unix_ms() != 0)
      said["estimated_start_unix_ms"] = explanation.estimated_start_unix_ms();
    print_json(said);
    return Exit::ok;
  }
  std::string text = job + ": " + explanation.text() + "\n";
  if (!explanation.reason().empty() && explanation.reason() != "none")
    text += "reason: " + explanation.reason() + "\n";
  if (!explanation.would_help().empty()) text += "would help: " + explanation.would_help() + "\n";
  if (const auto start = explanation.estimated_start_unix_ms(); start != 0)
    text += "estimated start: in " +
            format_duration(static_cast<double>(std::max<std::int64_t>(0, start - unix_ms_now())) /
                            1000) +
            "\n";
  for (const auto& line : explanation.arithmetic()) text += "  " + line + "\n";
  print_text(text);
  return Exit::ok;
}

Exit queues(const Common& common) {
  auto client = ControllerClient::connect(common);
  if (!client) return complain(client.error(), common.json);
  auto answer = (*client)->ask(pb::ListQueues());
  if (!answer) return complain(answer.error(), common.json);
  const auto& list = answer->queue_list().queues();
  if (common.json) {
    json queues = json::array();
    for (const auto& queue : list) {
      json each = {{"queue", queue.queue()},
                   {"weight", queue.weight()},
                   {"guaranteed", to_json(queue.guaranteed())},
                   {"used", to_json(queue.used())},
                   {"borrowed", to_json(queue.borrowed())},
                   {"share", queue.share()},
                   {"fair_share", queue.fair_share()},
                   {"running", queue.running()},
                   {"pending", queue.pending()}};
      if (queue.has_limit()) each["limit"] = to_json(queue.limit());
      queues.push_back(std::move(each));
    }
    print_json({{"queues", queues}});
    return Exit::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& queue : list)
    rows.push_back({queue.queue(), exact_number(queue.weight()), share_text(queue.share()),
                    share_text(queue.fair_share()), std::to_string(queue.running()),
                    std::to_string(queue.pending()), resources_text(queue.used()),
                    resources_text(queue.guaranteed())});
  print_text(format_table(
      {"QUEUE", "WEIGHT", "SHARE", "DUE", "RUNNING", "WAITING", "USED", "GUARANTEED"}, rows));
  return Exit::ok;
}

}  // namespace crabcast::apps
