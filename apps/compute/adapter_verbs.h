// crabcast adapter inspect, export, import.
#pragma once

namespace CLI {
class App;
}

namespace crabcast::apps {

// `code` gets the exit code when one of these verbs ran.
void add_adapter_verbs(CLI::App& app, int& code);

}  // namespace crabcast::apps
