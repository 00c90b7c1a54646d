// `crabcast data synth`, `inspect` and `verify`.
#pragma once

namespace CLI {
class App;
}

namespace crabcast::apps {

// Adds the verbs to `app`; `code` receives the exit code of the one that runs.
void add_data_verbs(CLI::App& app, int& code);

}  // namespace crabcast::apps
