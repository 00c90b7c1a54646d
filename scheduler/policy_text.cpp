// Reading the policy's YAML: every mistake is reported with its place.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <set>

#include "protocol/format.h"
#include "protocol/yaml_tree.h"
#include "scheduler/policy.h"

namespace crabcast::scheduler {
namespace {

constexpr std::uint32_t kDefaultDepth = 100;
constexpr std::uint64_t kMostDepth = 100'000;
constexpr std::size_t kDeepestQueue = 8;
constexpr double kLongest = 366.0 * 24 * 3600;
constexpr std::array kPriorities = {Priority::low, Priority::normal, Priority::high,
                                    Priority::critical};

std::vector<std::string> priority_names() {
  std::vector<std::string> names;
  for (const Priority priority : kPriorities) names.emplace_back(crabcast::to_string(priority));
  return names;
}

Duration duration_of(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

bool is_name(const std::string& text, std::string_view punctuation) {
  return !text.empty() && text.size() <= 127 && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           punctuation.find(c) != std::string_view::npos;
  }) && punctuation.find(text.front()) == std::string_view::npos;
}

// A queue's name in the file is one part of its path in a job spec: lower case.
bool is_queue_name(const std::string& text) {
  return is_name(text, "._-") &&
         std::none_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

class PolicyReader {
 public:
  explicit PolicyReader(std::vector<SpecProblem>& problems) : problems_(problems) {}

  ClusterPolicy read(const YamlNode& root) {
    policy_.backfill_depth = kDefaultDepth;
    policy_.preemption.emplace();
    fields(
        root, "",
        {{"crabcast", [&](const YamlNode& n, const std::string& f) { read_version(n, f); }},
         {"backfill", [&](const YamlNode& n, const std::string& f) { read_backfill(n, f); }},
         {"preemption", [&](const YamlNode& n, const std::string& f) { read_preemption(n, f); }},
         {"starvation",
          [&](const YamlNode& n, const std::string& f) {
            if (is_off(n)) return;
            if (const auto value = read_duration(n, f, "off, or ")) policy_.starvation = *value;
          }},
         {"queues", [&](const YamlNode& n, const std::string& f) { read_queues(n, f, nullptr); }},
         {"users", [&](const YamlNode& n, const std::string& f) { read_users(n, f); }}});
    if (policy_.queues.empty() && problems_.empty())
      report(root, "queues", "is missing", "a mapping with at least one queue");
    return std::move(policy_);
  }

 private:
  using Read = std::function<void(const YamlNode&, const std::string& field)>;
  using Fields = std::vector<std::pair<std::string, Read>>;

  void report(const YamlNode& at, const std::string& field, std::string message,
              std::string expected) {
    problems_.push_back({at.line, at.column, field, std::move(expected), std::move(message)});
  }

  // Every entry of a mapping once, with names that `is_known` says are fine.
  void entries(const YamlNode& node, const std::string& field, const std::string& expected,
               const std::function<void(const YamlNode& key, const YamlNode& value)>& take) {
    if (node.kind == YamlNode::Kind::broken) return;
    if (node.kind != YamlNode::Kind::mapping)
      return report(node, field, shown(node) + " is not a mapping", expected);
    std::map<std::string, int> seen;
    for (std::size_t i = 0; i < node.keys.size(); ++i) {
      const YamlNode& key = node.keys[i];
      if (key.kind == YamlNode::Kind::broken || node.items[i].kind == YamlNode::Kind::broken)
        continue;
      if (key.kind != YamlNode::Kind::scalar) {
        report(key, field, shown(key) + " cannot name a field", "a name");
        continue;
      }
      const auto [earlier, is_new] = seen.emplace(key.text, key.line);
      if (!is_new)
        report(key, joined(field, key.text),
               "is given twice; first in line " + std::to_string(earlier->second), "one value");
      else
        take(key, node.items[i]);
    }
  }

  void fields(const YamlNode& node, const std::string& field, const Fields& known) {
    std::vector<std::string> names;
    for (const auto& [name, read] : known) names.push_back(name);
    entries(node, field, "a mapping with " + join_names(names),
            [&](const YamlNode& key, const YamlNode& value) {
              const auto found = std::find_if(known.begin(), known.end(), [&](const auto& entry) {
                return entry.first == key.text;
              });
              if (found != known.end()) return found->second(value, joined(field, key.text));
              const auto nearest = nearest_name(key.text, names);
              report(key, joined(field, excerpt(key.text)),
                     "unknown field" + (nearest ? "; did you mean " + *nearest + "?" : ""),
                     "one of " + join_names(names));
            });
  }

  static std::string joined(const std::string& section, const std::string& name) {
    return section.empty() ? name : section + "." + name;
  }

  static bool is_off(const YamlNode& node) {
    return node.kind == YamlNode::Kind::scalar && node.text == "off";
  }

  void read_version(const YamlNode& node, const std::string& field) {
    if (node.kind != YamlNode::Kind::scalar || node.text != "1")
      report(node, field, shown(node) + " is not known to this program", "1");
  }

  void read_backfill(const YamlNode& node, const std::string& field) {
    if (is_off(node)) {
      policy_.backfill_depth = 0;
      return;
    }
    fields(node, field, {{"depth", [&](const YamlNode& n, const std::string& f) {
                            if (const auto value = read_whole(n, f, 1, kMostDepth))
                              policy_.backfill_depth = static_cast<std::uint32_t>(*value);
                          }}});
  }

  void read_preemption(const YamlNode& node, const std::string& field) {
    if (is_off(node)) {
      policy_.preemption.reset();
      return;
    }
    const auto into = [&](Duration& member) {
      return [&](const YamlNode& n, const std::string& f) {
        if (const auto value = read_duration(n, f, "")) member = *value;
      };
    };
    fields(node, field,
           {{"min_runtime", into(policy_.preemption->min_runtime)},
            {"grace", into(policy_.preemption->grace)}});
  }

  std::optional<std::uint64_t> read_whole(const YamlNode& node, const std::string& field,
                                          std::uint64_t least, std::uint64_t most) {
    const auto value =
        node.kind == YamlNode::Kind::scalar && !node.quoted ? parse_whole(node.text) : std::nullopt;
    if (value && *value >= least && *value <= most) return value;
    report(node, field, shown(node) + (value ? " is out of range" : " is not a whole number"),
           "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return std::nullopt;
  }

  std::optional<double> read_number(const YamlNode& node, const std::string& field, double low,
                                    double high, const std::string& expected) {
    const auto value = node.kind == YamlNode::Kind::scalar && !node.quoted ? parse_number(node.text)
                                                                           : std::nullopt;
    if (value && *value >= low && *value <= high) return value;
    report(node, field, shown(node) + (value ? " is out of range" : " is not a number"), expected);
    return std::nullopt;
  }

  std::optional<Duration> read_duration(const YamlNode& node, const std::string& field,
                                        const std::string& or_else) {
    const std::string expected = or_else + "a duration such as 10m or 48h, up to 366d";
    if (node.kind == YamlNode::Kind::scalar)
      if (const auto value = parse_duration(node.text); value && *value >= 0 && *value <= kLongest)
        return duration_of(*value);
    report(node, field, shown(node) + " is not such a duration", expected);
    return std::nullopt;
  }

  Quota read_quota(const YamlNode& node, const std::string& field, bool with_running,
                   std::optional<std::uint32_t>* running) {
    Quota quota;
    Fields known = {
        {"cpus",
         [&](const YamlNode& n, const std::string& f) {
           if (const auto value = read_number(n, f, 0, 1e9, "a number of CPUs, 0 or more"))
             quota.cpu_millis = std::llround(*value * 1000);
         }},
        {"gpus",
         [&](const YamlNode& n, const std::string& f) {
           if (const auto value = read_whole(n, f, 0, 1'000'000'000))
             quota.gpus = static_cast<std::int64_t>(*value);
         }},
        {"memory", [&](const YamlNode& n, const std::string& f) {
           const auto value = n.kind == YamlNode::Kind::scalar
                                  ? parse_bytes(n.text)
                                  : Result<std::uint64_t>(fail(Errc::invalid_argument, ""));
           if (value && *value <= INT64_MAX)
             quota.memory_bytes = static_cast<std::int64_t>(*value);
           else
             report(n, f, shown(n) + " is not a size", "a size such as 512GiB");
         }}};
    if (with_running)
      known.push_back({"running", [&](const YamlNode& n, const std::string& f) {
                         if (const auto value = read_whole(n, f, 1, 1'000'000))
                           *running = static_cast<std::uint32_t>(*value);
                       }});
    fields(node, field, known);
    return quota;
  }

  void read_queues(const YamlNode& node, const std::string& field, const QueuePolicy* parent) {
    const std::string above = parent == nullptr ? "" : parent->path;
    const Quota due = parent == nullptr ? Quota{} : parent->guaranteed;
    Quota sum;
    entries(node, field, "a mapping of queues", [&](const YamlNode& key, const YamlNode& value) {
      if (!is_queue_name(key.text))
        return report(key, field, shown(key) + " is not a queue's name",
                      "lower-case letters, digits and . _ -, a letter or digit first");
      const std::string path = above.empty() ? key.text : above + "/" + key.text;
      if (std::count(path.begin(), path.end(), '/') >= static_cast<std::ptrdiff_t>(kDeepestQueue))
        return report(key, field, path + " is too deep", "at most 8 levels of queues");
      add(sum, read_queue(key, value, joined(field, key.text), path));
    });
    if (parent != nullptr) check_guarantees(node, field, above, due, sum);
  }

  static void add(Quota& sum, const Quota& quota) {
    const auto plus = [](auto& a, const auto& b) {
      if (b) a = a.value_or(0) + *b;
    };
    plus(sum.cpu_millis, quota.cpu_millis);
    plus(sum.gpus, quota.gpus);
    plus(sum.memory_bytes, quota.memory_bytes);
  }

  // A parent that guarantees nothing in a dimension has nothing to hand on.
  void check_guarantees(const YamlNode& node, const std::string& field, const std::string& parent,
                        const Quota& due, const Quota& sum) {
    const auto more = [](const auto& children, const auto& own) {
      return children.value_or(0) > own.value_or(0);
    };
    if (!more(sum.cpu_millis, due.cpu_millis) && !more(sum.gpus, due.gpus) &&
        !more(sum.memory_bytes, due.memory_bytes))
      return;
    report(node, field,
           "the queues in " + parent + " are guaranteed " + to_string(sum) + " together, and " +
               parent + " itself " + to_string(due),
           "the sum of the children's guarantees at most the parent's");
  }

  Quota read_queue(const YamlNode& key, const YamlNode& value, const std::string& field,
                   const std::string& path) {
    QueuePolicy queue;
    queue.path = path;
    const YamlNode* below = nullptr;
    if (value.kind != YamlNode::Kind::null)  // a queue with nothing but its name
      fields(
          value, field,
          {{"weight",
            [&](const YamlNode& n, const std::string& f) {
              if (const auto w = read_number(n, f, 0.001, 1e6, "a number from 0.001 to 1000000"))
                queue.weight = *w;
            }},
           {"guaranteed",
            [&](const YamlNode& n, const std::string& f) {
              queue.guaranteed = read_quota(n, f, false, nullptr);
            }},
           {"limit", [&](const YamlNode& n,
                         const std::string& f) { queue.limit = read_quota(n, f, false, nullptr); }},
           {"users",
            [&](const YamlNode& n, const std::string& f) { queue.users = read_names(n, f); }},
           {"priorities", [&](const YamlNode& n,
                              const std::string& f) { queue.priorities = read_priorities(n, f); }},
           {"queues", [&](const YamlNode& n, const std::string&) { below = &n; }}});
    check_limit(key, field, queue);
    policy_.queues.push_back(queue);
    if (below != nullptr) read_queues(*below, joined(field, "queues"), &queue);
    return queue.guaranteed;
  }

  void check_limit(const YamlNode& key, const std::string& field, const QueuePolicy& queue) {
    const auto above = [](const auto& due, const auto& limit) {
      return due && limit && *due > *limit;
    };
    if (above(queue.guaranteed.cpu_millis, queue.limit.cpu_millis) ||
        above(queue.guaranteed.gpus, queue.limit.gpus) ||
        above(queue.guaranteed.memory_bytes, queue.limit.memory_bytes))
      report(key, joined(field, "guaranteed"),
             to_string(queue.guaranteed) + " is more than its limit of " + to_string(queue.limit),
             "guaranteed at most limit");
  }

  std::vector<std::string> read_names(const YamlNode& node, const std::string& field) {
    std::vector<std::string> names;
    each_item(node, field, "a list of users", [&](const YamlNode& item) {
      if (!is_name(item.text, "._@-"))
        report(item, field, shown(item) + " is not a user's name", "letters, digits and . _ @ -");
      else
        names.push_back(item.text);
    });
    return names;
  }

  std::vector<Priority> read_priorities(const YamlNode& node, const std::string& field) {
    const std::vector<std::string> known = priority_names();
    std::vector<Priority> priorities;
    each_item(node, field, "a list of " + join_names(known), [&](const YamlNode& item) {
      const auto found = std::find(known.begin(), known.end(), item.text);
      if (found != known.end())
        return priorities.push_back(
            kPriorities.at(static_cast<std::size_t>(found - known.begin())));
      const auto nearest = nearest_name(item.text, known);
      report(item, field,
             shown(item) + " is not known" + (nearest ? "; did you mean " + *nearest + "?" : ""),
             "some of " + join_names(known));
    });
    return priorities;
  }

  void each_item(const YamlNode& node, const std::string& field, const std::string& expected,
                 const std::function<void(const YamlNode&)>& take) {
    if (node.kind != YamlNode::Kind::sequence || node.items.empty())
      return report(node, field, shown(node) + " is not such a list", expected + ", not empty");
    std::set<std::string> seen;
    for (const YamlNode& item : node.items) {
      if (item.kind == YamlNode::Kind::broken) continue;
      if (item.kind != YamlNode::Kind::scalar)
        report(item, field, shown(item) + " is not a name", expected);
      else if (!seen.insert(item.text).second)
        report(item, field, item.text + " is given twice", "each once");
      else
        take(item);
    }
  }

  void read_users(const YamlNode& node, const std::string& field) {
    entries(node, field, "a mapping of users", [&](const YamlNode& key, const YamlNode& value) {
      if (key.text != "*" && !is_name(key.text, "._@-"))
        return report(key, field, shown(key) + " is not a user's name",
                      "letters, digits and . _ @ -, or \"*\" for everybody else");
      UserPolicy user;
      user.limit = read_quota(value, joined(field, key.text), true, &user.running);
      policy_.users[key.text] = user;
    });
  }

  std::vector<SpecProblem>& problems_;
  ClusterPolicy policy_;
};

}  // namespace

tl::expected<ClusterPolicy, SpecProblems> parse_policy(const std::string& yaml,
                                                       const std::string& file) {
  YamlDocument document = read_yaml(yaml);
  SpecProblems mistakes{file, std::move(document.problems)};
  ClusterPolicy policy = PolicyReader(mistakes.problems).read(document.root);
  if (mistakes.problems.empty()) return policy;
  std::stable_sort(mistakes.problems.begin(), mistakes.problems.end(),
                   [](const SpecProblem& a, const SpecProblem& b) {
                     return std::pair(a.line, a.column) < std::pair(b.line, b.column);
                   });
  return tl::make_unexpected(std::move(mistakes));
}

}  // namespace crabcast::scheduler
