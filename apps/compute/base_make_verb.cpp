#include "apps/compute/base_make_verb.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "actors/compute/base_making.h"
#include "apps/cli/exit_codes.h"
#include "apps/compute/verb_output.h"
#include "protocol/error.h"

namespace crabcast::apps {
namespace {

constexpr std::uint64_t kLineEvery = 100;  // steps, where no terminal shows the meter

Result<actors::MakingRecipe> read_recipe(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(Errc::not_found, "the recipe " + path + " cannot be read");
  auto recipe = actors::parse_making_recipe({std::istreambuf_iterator<char>(in), {}});
  if (!recipe) return fail(recipe.error().within(path));
  return recipe;
}

void show(const actors::MakingProgress& now) {
  const bool live = ::isatty(STDERR_FILENO) == 1;
  if (!live && now.step % kLineEvery != 0 && now.step != now.steps) return;
  std::fprintf(stderr, "%sstep %llu of %llu, loss %.4f%s", live ? "\r\033[K" : "",
               static_cast<unsigned long long>(now.step),
               static_cast<unsigned long long>(now.steps), now.loss,
               live && now.step != now.steps ? "" : "\n");
}

Exit make(const std::string& recipe_path, const std::string& folder, bool json) {
  auto recipe = read_recipe(recipe_path);
  if (!recipe) return complain(recipe.error(), json);
  auto made = actors::make_base(*recipe, folder, show);
  if (!made) return complain(made.error(), json);
  if (json) {
    std::cout << nlohmann::ordered_json{{"folder", folder},
                                        {"hash", made->hash},
                                        {"exact", made->exact}}
                     .dump(2)
              << "\n";
    return Exit::ok;
  }
  std::cout << "the base is in " << folder << "\nhash " << made->hash
            << "\nheld-out lessons whose answer is right to the last letter:\n"
            << std::flush;
  for (const auto& [kind, share] : made->exact) std::printf("  %-7s %.3f\n", kind.c_str(), share);
  return Exit::ok;
}

struct Options {
  std::string recipe, out;
  bool json = false;
};

}  // namespace

void add_base_make_verb(CLI::App& base, int& code) {
  auto options = std::make_shared<Options>();
  auto* verb = base.add_subcommand(
      "make",
      "Train the shipped base nano anew, from random weights; goes on where it was stopped\n"
      "Example: crabcast base make --recipe model/shipped/nano/recipe.json --out /tmp/nano");
  verb->add_option("--recipe", options->recipe, "Every number of the making")->required();
  verb->add_option("--out", options->out, "Folder for model.safetensors")->required();
  verb->add_flag("--json", options->json, "Print JSON");
  verb->callback([options, &code] {
    code = static_cast<int>(make(options->recipe, options->out, options->json));
  });
}

}  // namespace crabcast::apps
