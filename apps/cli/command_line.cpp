#include "apps/cli/command_line.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <optional>

#include "actors/control/state_folder.h"
#include "apps/cli/output.h"
#include "apps/cli/version.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

constexpr std::size_t kHelpColumn = 28;

// Arguments appear under the name of what they are: JOB, FILE.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() {
    label("Positionals", "Arguments");
    label("SUBCOMMAND", "VERB");
    column_width(kHelpColumn);
  }
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    return is_positional ? option->get_type_name()
                         : CLI::Formatter::make_option_name(option, is_positional);
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_positional() || option->get_type_size() == 0) return "";
    const std::string standard = option->get_default_str();
    return " " + option->get_type_name() + (standard.empty() ? "" : "=" + standard) +
           (option->get_required() ? " (required)" : "");
  }
};

// Without a description of its own, so that help shows the plain type name.
CLI::Validator checked(std::function<std::string(std::string&)> check) {
  return {std::move(check), ""};
}

bool takes_value(const CLI::App& at, const std::string& option) {
  for (const CLI::App* app = &at; app != nullptr; app = app->get_parent())
    if (const auto* found = app->get_option_no_throw(option))
      return found->get_items_expected_max() > 0;
  return false;
}

const CLI::App* child(const CLI::App& parent, const std::string& name) {
  for (const auto* sub : parent.get_subcommands([](const CLI::App*) { return true; }))
    if (sub->get_name() == name) return sub;
  return nullptr;
}

std::vector<std::string> visible_children(const CLI::App& parent) {
  std::vector<std::string> names;
  for (const auto* sub :
       parent.get_subcommands([](const CLI::App* app) { return !app->get_group().empty(); }))
    names.push_back(sub->get_name());
  return names;
}

std::string full_name(const CLI::App& at) {
  return at.get_parent() == nullptr ? at.get_name()
                                    : full_name(*at.get_parent()) + " " + at.get_name();
}

// How far the words of a command line lead into the tree of verbs.
struct Walk {
  const CLI::App* at = nullptr;        // the deepest verb
  std::size_t next = 0;                // the first word after it
  std::optional<std::string> unknown;  // a word where a verb of `at` must stand
};

Walk walk(const CLI::App& root, const std::vector<std::string>& arguments) {
  Walk result{&root, 0, std::nullopt};
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (visible_children(*result.at).empty()) break;
    if (word.starts_with("-")) {
      if (word.find('=') == std::string::npos && takes_value(*result.at, word)) ++i;
      continue;
    }
    const CLI::App* next = child(*result.at, word);
    if (next == nullptr) {
      result.unknown = word;
      break;
    }
    result.at = next;
    result.next = i + 1;
  }
  return result;
}

}  // namespace

CommandLine::CommandLine()
    : app_("Trains audio-visual LLMs on shared clusters as a cast of actors.", "crabcast") {
  app_.formatter(std::make_shared<HelpFormatter>());
  app_.require_subcommand(1);
  app_.footer(
      "Examples:\n  crabcast run examples/quickstart.yaml\n  crabcast ps --all\n\n"
      "crabcast VERB --help says more. Exit codes are in docs/operations.md.");
  app_.set_version_flag("--version", "crabcast")->description("Print the version");
  common_.state = actors::StateFolder::standard().root;
  takes_json(&app_);
  takes_state(&app_);
  takes_controller(&app_);
  takes_quiet(&app_);
  add_job_verbs();
  add_looking_verbs();
  add_place_verbs();
  add_spec_verbs();
  add_store_verbs();
  add_checkpoint_verbs();
  add_chaos_verbs();
  add_scheduling_verbs();
  add_generate_verb();
  add_compute_verbs();
  add_adapter_verbs();
  add_cluster_verbs();
  add_token_verbs();
  add_machine_verbs();
}

CLI::App* CommandLine::verb(CLI::App& parent, const std::string& name,
                            const std::string& description, const std::string& examples,
                            std::function<Exit()> action) {
  CLI::App* added = parent.add_subcommand(name, description)->group("Verbs");
  if (!examples.empty()) added->footer("Example:\n" + examples);
  if (action)
    added->callback([this, action = std::move(action)] { action_ = action; });
  else
    added->require_subcommand(1);
  return added;
}

void CommandLine::takes_json(CLI::App* verb) {
  verb->add_flag("--json", common_.json, "Print JSON for programs");
}
void CommandLine::takes_quiet(CLI::App* verb) {
  verb->add_flag("-q,--quiet", common_.quiet, "No notes on stderr");
}
void CommandLine::takes_state(CLI::App* verb) {
  verb->add_option("--state", common_.state,
                   "State folder (default: $CRABCAST_STATE, else ~/.local/state/crabcast)")
      ->type_name("DIR");
}
void CommandLine::takes_controller(CLI::App* verb) {
  verb->add_option("--controller", common_.controller,
                   "Controller to ask (default: the one of the state folder)")
      ->type_name("HOST:PORT");
}
CLI::Option* CommandLine::takes_job(CLI::App* verb, std::string& into) {
  return verb->add_option("job", into, "Job id, as crabcast ps shows it")->type_name("JOB");
}

void CommandLine::add_job_verbs() {
  auto* run =
      verb(app_, "run",
           "Run a job on this machine, from start to end; Ctrl-C stops it "
           "with a checkpoint, and the same command goes on from there",
           "  crabcast run examples/quickstart.yaml", [this] { return apps::run(common_, run_); });
  run->add_option("spec", run_.spec, "Job spec (docs/job-spec.md)")->required()->type_name("FILE");
  takes_http(run, run_.http);
  run->add_flag("--fresh", run_.fresh, "A new job, even where an unfinished one could go on");

  auto* validate = verb(app_, "validate", "Check a job spec; shows every mistake with its line",
                        "  crabcast validate job.yaml\n  crabcast validate --print job.yaml",
                        [this] { return apps::validate(common_, validate_); });
  validate->add_option("spec", validate_.spec, "Job spec; - reads stdin")
      ->required()
      ->type_name("FILE");
  validate->add_flag("--print", validate_.print, "Print it with every default filled in");

  auto* submit = verb(app_, "submit", "Give a job to the controller; prints the job's id",
                      "  crabcast submit job.yaml\n"
                      "  crabcast submit --controller head:7117 --key nightly-2026-01-31 job.yaml",
                      [this] { return apps::submit(common_, submit_); });
  submit->add_option("spec", submit_.spec, "Job spec; - reads stdin")
      ->required()
      ->type_name("FILE");
  submit
      ->add_option("--key", submit_.client_key,
                   "Submits with the same key are one job (default: a random key)")
      ->type_name("KEY");
  submit->add_flag("--hold", submit_.hold, "It waits until crabcast release lets it start");
  submit->add_flag("--resume", submit_.resume,
                   "Go on with the newest job of this name that was stopped or failed");

  auto* cancel = verb(app_, "cancel", "End a job",
                      "  crabcast cancel quickstart-1\n"
                      "  crabcast cancel --keep quickstart-1",
                      [this] { return apps::cancel(common_, job_, keep_); });
  takes_job(cancel, job_)->required();
  cancel->add_flag("--keep", keep_, "Checkpoint first, and stop so that it can be resumed");

  auto* scale = verb(app_, "scale", "Change how many workers a job has, while it runs",
                     "  crabcast scale quickstart-1 --workers 4",
                     [this] { return apps::scale(common_, job_, workers_); });
  takes_job(scale, job_)->required();
  scale->add_option("--workers", workers_, "So many, from 1 to the job's train.lanes")
      ->required()
      ->type_name("N");

  takes_json(validate);
  for (auto* one : {run, submit, cancel, scale}) {
    takes_json(one);
    takes_state(one);
    takes_quiet(one);
    if (one != run) takes_controller(one);
  }
}

void CommandLine::add_looking_verbs() {
  auto* ps = verb(app_, "ps", "List jobs, or the processes of one job",
                  "  crabcast ps --all\n  crabcast ps quickstart-1",
                  [this] { return apps::ps(common_, job_, all_); });
  takes_job(ps, job_);
  ps->add_flag("-a,--all", all_, "Jobs that have ended too");
  auto* status =
      verb(app_, "status", "Show all of one job: losses, scores, time, processes",
           "  crabcast status quickstart-1", [this] { return apps::status(common_, job_); });
  takes_job(status, job_)->required();
  auto* logs = verb(app_, "logs", "Print the log of a process of a job",
                    "  crabcast logs -f quickstart-1 worker-0",
                    [this] { return apps::logs(common_, logs_); });
  takes_job(logs, logs_.job)->required();
  logs->add_option("role", logs_.role,
                   "coordinator (default), worker-0, loader-0, evaluator-0, ...")
      ->type_name("ROLE");
  logs->add_flag("-f,--follow", logs_.follow, "Go on until the job is over, or Ctrl-C");
  auto* events = verb(app_, "events",
                      "List what happened, incidents with culprit and seconds; "
                      "with --json one object a line",
                      "  crabcast events quickstart-1\n  crabcast events -f --json",
                      [this] { return apps::events(common_, job_, follow_); });
  takes_job(events, job_);
  events->add_flag("-f,--follow", follow_, "Go on until the job is over, or Ctrl-C");
  auto* incidents =
      verb(app_, "incidents",
           "List what failed in a job: who, in which operation, by what evidence, and "
           "the seconds to detect and to repair it",
           "  crabcast incidents quickstart-1", [this] { return apps::incidents(common_, job_); });
  takes_job(incidents, job_)->required();
  auto* nodes = verb(app_, "nodes", "List the nodes that have joined, with what is free on them",
                     "  crabcast nodes", [this] { return apps::nodes(common_); });
  for (auto* one : {ps, status, logs, events, incidents, nodes}) {
    takes_json(one);
    takes_state(one);
    takes_controller(one);
    takes_quiet(one);
  }
}

CLI::App* CommandLine::store_verb(CLI::App& parent, const std::string& name,
                                  const std::string& description, const std::string& examples,
                                  Exit (*what)(const Common&, const CheckpointOptions&)) {
  auto* added = verb(parent, name, description, examples, [this, &parent, name, what] {
    if (checkpoint_.job.empty() && checkpoint_.store.empty())
      return usage_error("name a JOB, or a store with --store DIR", *child(parent, name));
    return what(common_, checkpoint_);
  });
  auto* job = takes_job(added, checkpoint_.job);
  added
      ->add_option("--store", checkpoint_.store,
                   "Folder of a job, of its store, or of a copy of it")
      ->type_name("DIR")
      ->excludes(job);
  takes_json(added);
  takes_state(added);
  takes_quiet(added);
  return added;
}

void CommandLine::add_store_verbs() {
  store_verb(app_, "report", "Show losses, scores, checkpoints, speed and incidents of a job",
             "  crabcast report quickstart-1", report);
  store_verb(app_, "quarantine", "List the training samples of a job that cannot be read, and why",
             "  crabcast quarantine quickstart-1", quarantine);
}

void CommandLine::add_generate_verb() {
  auto* generate =
      verb(app_, "generate", "Ask a model about a video, a picture, a sound or nothing of these",
           "  crabcast generate --adapter job:quickstart-1 --video clip.mp4 --audio clip.mp4 "
           "--prompt 'What happens?'\n"
           "  crabcast generate --base /models/Qwen2.5-Omni-7B --image crab.jpg "
           "--prompt 'Describe it.'",
           [this] { return apps::generate(common_, generate_); });
  takes_generate_options(*generate, generate_);
  takes_json(generate);
  takes_state(generate);
}

// crabcast-compute carries these out and reads their command line. Options here are for completion.
void CommandLine::add_compute_verbs() {
  auto* plan = app_.add_subcommand("plan", "Memory of a job's workers, and whether they fit");
  plan->group("Verbs")->add_option("file")->type_name("FILE");
  for (const char* option : {"--text-tokens", "--answer-tokens", "--device-memory"})
    plan->add_option(option);
  takes_json(plan);
  takes_state(plan);

  auto* data = verb(app_, "data", "Make and look at corpora",
                    "  crabcast data synth --help\n  crabcast data verify --help", {});
  data->add_subcommand("synth", "Render a synthetic corpus in AV-UIE layout")->group("Verbs");
  data->add_subcommand("inspect", "Check a corpus and show what is in it")->group("Verbs");
  data->add_subcommand("verify", "Decode a corpus and list what cannot be read")->group("Verbs");

  auto* base = verb(app_, "base", "Look at frozen bases and import them",
                    "  crabcast base inspect --help\n  crabcast base import --help", {});
  for (auto* one : {base->add_subcommand("inspect", "Check a base and show what is in it"),
                    base->add_subcommand("import", "Copy a base into the state folder")}) {
    one->group("Verbs")->add_option("folder")->type_name("DIR");
    takes_json(one);
    if (one->get_name() == "inspect") continue;
    one->add_option("--name")->type_name("NAME");
    one->add_option("--type")->type_name("TYPE");
    takes_state(one);
  }
}

void CommandLine::add_cluster_verbs() {
  auto* controller = verb(app_, "controller", "Run the controller of a cluster, as a daemon",
                          "  crabcast controller --bind 10.0.0.1:7117",
                          [this] { return apps::controller(common_, controller_); });
  controller->add_option("--bind", controller_.bind, "Where it listens")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  controller
      ->add_option("--policy", controller_.policy,
                   "Queues, quota and users; read again when it changes")
      ->type_name("FILE");
  takes_http(controller, controller_.http);
  auto* agent = verb(app_, "agent",
                     "Run the agent of a node, as a daemon: it starts the "
                     "processes of jobs",
                     "  crabcast agent --join 10.0.0.1:7117 --bind 10.0.0.2",
                     [this] { return apps::agent(common_, agent_); });
  agent->add_option("--join", agent_.join, "The controller")->required()->type_name("HOST:PORT");
  agent->add_option("--node", agent_.node, "Name of this node (default: the host name)")
      ->type_name("NAME");
  agent->add_option("--bind", agent_.bind, "Address that its processes listen on")
      ->type_name("HOST")
      ->capture_default_str();
  agent->add_option("--cpus", agent_.cpus, "Cores to offer (default: all)")
      ->type_name("N")
      ->check(checked([](std::string& text) -> std::string {
        const auto number = parse_number(text);
        return number && *number > 0 ? "" : "--cpus takes a number above 0, not '" + text + "'";
      }));
  agent->add_option("--gpus", agent_.gpus, "GPUs to offer (default: all)")
      ->type_name("N")
      ->check(checked([](std::string& text) -> std::string {
        return parse_whole(text) ? "" : "--gpus takes a whole number, not '" + text + "'";
      }));
  agent->add_option("--memory", agent_memory_, "Memory to offer, such as 64GiB (default: all)")
      ->type_name("SIZE")
      ->check(checked([this](std::string& text) -> std::string {
        const auto bytes = parse_bytes(text);
        if (!bytes) return "--memory: " + bytes.error().message;
        agent_.memory_bytes = *bytes;
        return "";
      }));
  agent
      ->add_option("--label", agent_.labels,
                   "What jobs may ask for in schedule.nodes; rack=NAME is its place")
      ->type_name("NAME=VALUE");
  agent
      ->add_option("--taint", agent_.taints,
                   "Only jobs come here that tolerate it (schedule.tolerates)")
      ->type_name("NAME");
  agent->add_option("--keys", agent_.keys, "Folder of its keys (default: STATE/keys)")
      ->type_name("DIR");
  for (auto* one : {controller, agent}) {
    takes_json(one);
    takes_state(one);
  }
  auto* role = verb(app_, "role", "A process of a job; started by an agent", "",
                    [this] { return apps::role(launch_file_); });
  role->group("");  // not for people
  role->add_option("launch", launch_file_, "Launch file")->required()->type_name("FILE");
}

void CommandLine::add_machine_verbs() {
  auto* doctor = verb(app_, "doctor", "Check this machine and say what to mend",
                      "  crabcast doctor", [this] { return apps::doctor(common_); });
  takes_json(doctor);
  takes_state(doctor);
  takes_controller(doctor);
  auto* completion = verb(app_, "completion", "Print what makes a shell complete these verbs",
                          "  source <(crabcast completion bash)", {});
  verb(*completion, "bash", "For bash: source it in ~/.bashrc",
       "  crabcast completion bash > ~/.local/share/bash-completion/completions/crabcast",
       [this] { return apps::completion(app_, "bash"); });
  auto* version = verb(app_, "version", "Print the version", "  crabcast version",
                       [this] { return show_version(common_.json); });
  takes_json(version);
}

namespace {

// crabcast-compute has its own options; the state folder goes along in its environment.
Exit hand_on_verb(std::vector<std::string> verb, const std::vector<std::string>& arguments,
                  std::size_t from) {
  for (std::size_t i = 0; i + 1 < from; ++i) {
    const std::string& word = arguments[i];
    if (word == "--state") ::setenv("CRABCAST_STATE", arguments[i + 1].c_str(), 1);
    if (word.starts_with("--state=")) ::setenv("CRABCAST_STATE", word.substr(8).c_str(), 1);
  }
  verb.insert(verb.end(), arguments.begin() + static_cast<std::ptrdiff_t>(from), arguments.end());
  return hand_on(verb);
}

}  // namespace

// ---- Mistakes ---------------------------------------------------------------------------------

Exit CommandLine::usage_error(const std::string& message, const CLI::App& at) const {
  std::string text = message;
  while (!text.empty() && (text.back() == '\n' || text.back() == '.')) text.pop_back();
  if (common_.json)
    print_json({{"error",
                 {{"code", "usage"}, {"message", text}, {"exit", static_cast<int>(Exit::usage)}}}});
  std::fprintf(stderr, "crabcast: %s%s %s --help\n", text.c_str(),
               text.ends_with("?") ? " See" : "; see", full_name(at).c_str());
  return Exit::usage;
}

std::string CommandLine::option_hint(const std::vector<std::string>& arguments,
                                     const CLI::App& at) const {
  std::vector<std::string> known;
  for (const auto* option : at.get_options())
    for (const auto& name : option->get_lnames()) known.push_back(name);
  for (const auto& word : arguments) {
    const std::string name = word.substr(0, word.find('='));
    if (!name.starts_with("--") || name.size() == 2) continue;
    const bool is_known =
        at.get_option_no_throw(name) != nullptr || app_.get_option_no_throw(name) != nullptr;
    if (is_known) continue;
    std::string text = "there is no option " + excerpt(name);
    if (const auto near = nearest_name(name.substr(2), known))
      text += "; did you mean --" + *near + "?";
    return text;
  }
  return "";
}

Exit CommandLine::run(const std::vector<std::string>& arguments) {
  const Walk words = walk(app_, arguments);
  if (words.unknown) {
    const auto verbs = visible_children(*words.at);
    std::string text = "'" + excerpt(*words.unknown) + "' is no verb of " + full_name(*words.at);
    if (const auto near = nearest_name(*words.unknown, verbs))
      text += "; did you mean '" + *near + "'?";
    else
      text += " (" + join_names(verbs) + ")";
    return usage_error(text, *words.at);
  }
  if (words.at->get_name() == "plan") return hand_on_verb({"plan"}, arguments, words.next);
  const std::string group = words.at->get_parent() ? words.at->get_parent()->get_name() : "";
  const bool exports = group == "adapter" && words.at->get_name() == "export";
  if (group == "data" || group == "base" || (group == "adapter" && !exports))
    return hand_on_verb({group, words.at->get_name()}, arguments, words.next);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app_.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    print_text(app_.help());
    return Exit::ok;
  } catch (const CLI::CallForVersion&) {
    return show_version(common_.json);
  } catch (const CLI::RequiredError& error) {
    if (visible_children(*words.at).empty()) return usage_error(error.what(), *words.at);
    const CLI::App* above = words.at->get_parent();
    const std::string help = words.at->help(above == nullptr ? "" : full_name(*above));
    std::fprintf(stderr, "%s", help.c_str());
    return Exit::usage;
  } catch (const CLI::ParseError& error) {
    const std::string hint = option_hint(arguments, *words.at);
    return usage_error(hint.empty() ? error.what() : hint, *words.at);
  }
  std::error_code ignored;  // a state folder without a place is found by those who use it
  if (auto whole = std::filesystem::absolute(common_.state, ignored); !ignored)
    common_.state = whole.lexically_normal();
  // Clients only say what is wrong; a daemon's log is what it has to show.
  const std::string name = words.at->get_name();
  spdlog::set_default_logger(spdlog::stderr_logger_mt("crabcast"));
  const bool daemon = name == "controller" || name == "agent" || name == "role";
  spdlog::set_level(daemon ? spdlog::level::info : spdlog::level::warn);
  return action_();
}

}  // namespace crabcast::apps
