// The verbs of `crabcast ckpt`.
#include <CLI/CLI.hpp>

#include "apps/cli/command_line.h"

namespace crabcast::apps {

void CommandLine::add_checkpoint_verbs() {
  auto* ckpt = verb(app_, "ckpt", "Look at the checkpoints of a job, keep them and move them",
                    "  crabcast ckpt ls quickstart-1\n  crabcast ckpt verify quickstart-1", {});
  const auto takes_id = [this](CLI::App* verb, const std::string& text) {
    return verb->add_option("--id", checkpoint_.id, text)->type_name("N");
  };
  const std::string newest = "Which one (default: the newest that verifies)";

  store_verb(*ckpt, "ls", "List the checkpoints of a job", "  crabcast ckpt ls quickstart-1",
             ckpt_ls);
  takes_id(store_verb(*ckpt, "show", "Show all that a checkpoint holds, and why it is kept",
                      "  crabcast ckpt show quickstart-1 --id 80", ckpt_show),
           newest);
  takes_id(store_verb(*ckpt, "verify", "Read checkpoints through and check every chunk",
                      "  crabcast ckpt verify quickstart-1\n"
                      "  crabcast ckpt verify --store /backup/quickstart-1/store --id 80",
                      ckpt_verify),
           "Only this checkpoint");

  auto* diff = verb(*ckpt, "diff", "Compare two checkpoints, of one job or of two",
                    "  crabcast ckpt diff quickstart-1@40 quickstart-1@80\n"
                    "  crabcast ckpt diff quickstart-1 /backup/quickstart-1/store@80",
                    [this] { return apps::ckpt_diff(common_, checkpoint_diff_); });
  diff->add_option("before", checkpoint_diff_.before,
                   "JOB@N, or a folder with a '/' in its name and @N; without @N the newest one")
      ->required()
      ->type_name("JOB");
  diff->add_option("after", checkpoint_diff_.after, "The same")->required()->type_name("JOB");
  takes_json(diff);
  takes_state(diff);
  takes_quiet(diff);

  auto* pin =
      store_verb(*ckpt, "pin", "Keep a checkpoint until it is unpinned, also while the job runs",
                 "  crabcast ckpt pin quickstart-1 --id 80 --note 'table 2'", ckpt_pin);
  takes_id(pin, "Which one")->required();
  pin->add_option("--note", checkpoint_.note, "Why")->type_name("TEXT");
  auto* unpin = store_verb(*ckpt, "unpin", "Leave a pinned checkpoint to the job's policy again",
                           "  crabcast ckpt unpin quickstart-1 --id 80", ckpt_unpin);
  takes_id(unpin, "Which one")->required();

  auto* gc = store_verb(*ckpt, "gc",
                        "Delete what the policy of a job that does not run would not keep, and "
                        "give back the room of what was left over",
                        "  crabcast ckpt gc quickstart-1 --dry-run\n"
                        "  crabcast ckpt gc quickstart-1 --keep-last 1",
                        ckpt_gc);
  gc->add_flag("-n,--dry-run", checkpoint_.dry_run, "Only say what it would do");
  gc->add_option("--keep-last", checkpoint_.keep_last, "Instead of the spec's checkpoint.keep.last")
      ->type_name("N");

  auto* exports =
      store_verb(*ckpt, "export",
                 "Write a checkpoint, with all that a job needs to go on from it, as a "
                 "folder for another machine",
                 "  crabcast ckpt export quickstart-1 --out /mnt/quickstart-1-80", ckpt_export);
  takes_id(exports, newest);
  exports->add_option("--out", checkpoint_.out, "Folder that does not exist yet")
      ->required()
      ->type_name("DIR");

  auto* imports = verb(*ckpt, "import",
                       "Take in what ckpt export wrote: as a new, stopped job, or into the store "
                       "of a job that does not run",
                       "  crabcast ckpt import /mnt/quickstart-1-80\n"
                       "  crabcast ckpt import /mnt/quickstart-1-80 --job quickstart-1",
                       [this] { return apps::ckpt_import(common_, checkpoint_import_); });
  imports->add_option("folder", checkpoint_import_.folder, "What crabcast ckpt export wrote")
      ->required()
      ->type_name("DIR");
  auto* job = imports->add_option("--job", checkpoint_import_.job, "Job that takes it in")
                  ->type_name("JOB");
  imports
      ->add_option("--store", checkpoint_import_.store,
                   "Folder of a job, of its store, or of a copy of it")
      ->type_name("DIR")
      ->excludes(job);
  takes_json(imports);
  takes_state(imports);
  takes_quiet(imports);
}

}  // namespace crabcast::apps
