// `crabcast base inspect`, `crabcast base import` and `crabcast base make`.
#pragma once

namespace CLI {
class App;
}

namespace crabcast::apps {

// Adds the verbs to `app`; `code` receives the exit code of the one that runs.
void add_base_verbs(CLI::App& app, int& code);

}  // namespace crabcast::apps
