// `crabcast base make`.
#pragma once

namespace CLI {
class App;
}

namespace crabcast::apps {

// Adds the verb to `base`; `code` receives its exit code.
void add_base_make_verb(CLI::App& base, int& code);

}  // namespace crabcast::apps
