// The command line: a job's place among others, and its nodes.
#include "apps/cli/command_line.h"

namespace crabcast::apps {

void CommandLine::add_spec_verbs() {
  auto* init =
      verb(app_, "init", "Print a job spec in which every field is explained",
           "  crabcast init my-job > my-job.yaml", [this] { return apps::init(common_, name_); });
  init->add_option("name", name_, "Name of the job")->type_name("NAME");
  auto* diff = verb(app_, "diff", "Show in which fields the specs of two jobs differ",
                    "  crabcast diff quickstart-1 quickstart-2",
                    [this] { return apps::diff(common_, job_, other_job_); });
  takes_job(diff, job_)->required();
  diff->add_option("other", other_job_, "The other job's id")->required()->type_name("JOB");
  auto* clone = verb(app_, "clone", "Submit a job's spec again, with some fields changed",
                     "  crabcast clone quickstart-1 --set train.optimizer.lr=2e-4",
                     [this] { return apps::clone(common_, clone_); });
  takes_job(clone, clone_.job)->required();
  clone->add_option("--set", clone_.changes, "Another value; FIELD= leaves the field out")
      ->type_name("FIELD=VALUE")
      ->take_all();
  clone->add_flag("--print", clone_.print, "Print the spec, and submit nothing");
  takes_json(init);
  for (auto* one : {diff, clone}) {
    takes_json(one);
    takes_state(one);
    takes_controller(one);
    takes_quiet(one);
  }
}

void CommandLine::add_place_verbs() {
  auto* pause =
      verb(app_, "pause", "Stop a job with a checkpoint; resume lets it go on",
           "  crabcast pause quickstart-1", [this] { return apps::cancel(common_, job_, true); });
  auto* resume =
      verb(app_, "resume", "Let a job go on that was paused or has failed",
           "  crabcast resume quickstart-1", [this] { return apps::resume(common_, job_); });
  auto* hold =
      verb(app_, "hold", "Keep a waiting job from being started", "  crabcast hold quickstart-1",
           [this] { return apps::hold(common_, job_, true); });
  auto* release =
      verb(app_, "release", "Let a job start that was held", "  crabcast release quickstart-1",
           [this] { return apps::hold(common_, job_, false); });
  auto* explain =
      verb(app_, "explain", "Say why a job waits, and the arithmetic behind it",
           "  crabcast explain quickstart-1", [this] { return apps::explain(common_, job_); });
  for (auto* one : {pause, resume, hold, release, explain}) takes_job(one, job_)->required();

  auto* queues = verb(app_, "queues", "List the queues, with what each uses and is due",
                      "  crabcast queues", [this] { return apps::queues(common_); });
  auto* drain = verb(app_, "drain", "Move a node's work away, and place nothing new there",
                     "  crabcast drain node-3 --reason \"new disk\"\n"
                     "  crabcast drain node-3 --off",
                     [this] { return apps::drain(common_, drain_); });
  drain->add_option("NODE", drain_.node, "Name of the node; see crabcast nodes")->required();
  drain->add_option("--reason", drain_.reason, "Why, for those who look")->type_name("TEXT");
  drain->add_flag("--off", drain_.off, "It takes work again");
  for (auto* one : {pause, resume, hold, release, explain, queues, drain}) {
    takes_json(one);
    takes_state(one);
    takes_controller(one);
    takes_quiet(one);
  }
}

}  // namespace crabcast::apps
