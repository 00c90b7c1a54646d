// `crabcast data verify`.
#pragma once

namespace CLI {
class App;
}

namespace crabcast::apps {

// Adds the verb to `data`; `code` receives its exit code when it runs.
void add_verify_verb(CLI::App& data, int& code);

}  // namespace crabcast::apps
