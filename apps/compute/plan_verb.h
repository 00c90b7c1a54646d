// `crabcast plan`: what a job's worker needs, before it runs.
#pragma once

namespace CLI {
class App;
}

namespace crabcast::apps {

// Adds the verb to `app`; `code` receives its exit code: 1 where the worker does not fit.
void add_plan_verb(CLI::App& app, int& code);

}  // namespace crabcast::apps
