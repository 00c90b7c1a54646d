// Tokenizer speed on one thread: text to ids, ids to text, and loading, with Qwen2.5-Omni's
// vocabulary.
//
// The reference is the Python package `tokenizers` (Rust), run by bench/tokenizer_reference.py on
// the same documents of 4 KiB: this repository's pages (English) and sources (code), and words of
// the vocabulary, frequent ones more often, with punctuation (Chinese). Either side loads the
// tokenizer anew in every round and sees each document once; the rounds alternate, and the best of
// each side counts.
//
// docs/benchmarks.md says what the figures mean.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "bench/figure.h"
#include "model/bpe_tokenizer.h"

namespace {

namespace fs = std::filesystem;
using crabcast::bench::Better;
using crabcast::bench::print_figure;
using crabcast::model::TokenId;
using crabcast::model::Tokenizer;

constexpr int kRounds = 5;
constexpr std::size_t kDocument = 4096, kText = 400'000;
const fs::path kFolder = "build/bench_tokenizer";

// Documents by the name of their text.
using Texts = std::map<std::string, std::vector<std::string>>;
// Seconds by what was measured: "load", "decode" and the names of the texts.
using Seconds = std::map<std::string, double>;

[[noreturn]] void give_up(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

std::shared_ptr<const Tokenizer> load() {
  auto tokenizer = crabcast::model::load_bpe_tokenizer(kFolder / "tokenizer.json");
  if (!tokenizer) give_up(tokenizer.error().message);
  return *tokenizer;
}

std::string run_reference(const std::string& verb) {
  const std::string command = "PYTHONPATH=build/python python3 bench/tokenizer_reference.py " +
                              verb + " " + kFolder.string();
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) give_up("cannot start " + command);
  std::string out;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) out += static_cast<char>(c);
  if (::pclose(pipe) != 0) give_up("the reference failed: " + command);
  return out;
}

// ---- Texts --------------------------------------------------------------------------------------

std::string files_of(const std::vector<fs::path>& folders, const std::string& ending) {
  std::vector<fs::path> files;
  for (const fs::path& folder : folders)
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ending) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string text;
  for (const fs::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    text.append(std::istreambuf_iterator<char>(in), {});
  }
  return text.substr(0, kText);
}

bool is_chinese(const std::string& word) {
  for (std::size_t i = 0; i < word.size(); i += 3)
    if (word.size() % 3 != 0 || static_cast<unsigned char>(word[i]) < 0xE4 ||
        static_cast<unsigned char>(word[i]) > 0xE9)
      return false;
  return !word.empty();
}

// Frequent words have low ids; the word of rank r is drawn about as often as 1 / r, as in texts.
std::string chinese(const Tokenizer& tokenizer) {
  std::vector<std::string> words;
  for (TokenId id = 0; id < tokenizer.special().pad; ++id)
    if (auto word = tokenizer.decode({id}); is_chinese(word)) words.push_back(std::move(word));
  std::mt19937_64 random(7);
  const double ranks = std::log(static_cast<double>(words.size()));
  std::uniform_real_distribution<double> uniform(0, ranks);
  std::string text;
  while (text.size() < kText) {
    for (auto n = 3 + random() % 7; n > 0; --n)
      text += words[static_cast<std::size_t>(std::exp(uniform(random))) - 1];
    text += random() % 3 == 0 ? "\u3002" : "\uFF0C";
  }
  return text;
}

std::vector<std::string> documents_of(const std::string& text) {
  std::vector<std::string> documents;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(at + kDocument, text.size());
    while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
    documents.push_back(text.substr(at, end - at));
    at = end;
  }
  return documents;
}

std::size_t bytes_of(const std::vector<std::string>& documents) {
  std::size_t sum = 0;
  for (const auto& document : documents) sum += document.size();
  return sum;
}

// ---- Measuring ----------------------------------------------------------------------------------

// CPU time, on both sides: one thread works, and other programs do not count.
template <class Body>
double seconds_of(const Body& body) {
  const std::clock_t start = std::clock();
  body();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

// Also counts the tokens, which must be as many as those of the reference.
Seconds measure_ours(const Texts& texts, std::size_t& tokens) {
  Seconds seconds;
  std::shared_ptr<const Tokenizer> tokenizer;
  seconds["load"] = seconds_of([&] { tokenizer = load(); });
  std::vector<std::vector<TokenId>> ids;
  for (const auto& [name, documents] : texts)
    seconds[name] = seconds_of([&] {
      for (const auto& document : documents) ids.push_back(tokenizer->encode(document));
    });
  std::size_t bytes = 0;
  seconds["decode"] = seconds_of([&] {
    for (const auto& row : ids) bytes += tokenizer->decode(row).size();
  });
  if (bytes == 0) give_up("nothing was decoded");
  tokens = 0;
  for (const auto& row : ids) tokens += row.size();
  return seconds;
}

Seconds measure_reference(std::size_t& tokens) {
  const auto answer = nlohmann::json::parse(run_reference("measure"));
  tokens = answer["tokens"];
  return answer["seconds"];
}

void keep_best(Seconds& best, const Seconds& seconds) {
  for (const auto& [name, value] : seconds)
    best[name] = best.contains(name) ? std::min(best[name], value) : value;
}

void print_speed(const std::string& figure, double amount, double ours, double reference,
                 const char* unit) {
  print_figure("tokenizer_" + figure, amount / ours, amount / reference, unit, Better::more);
}

}  // namespace

int main() {
  fs::create_directories(kFolder);
  run_reference("make");
  Texts texts = {{"english", documents_of(files_of({".", "docs"}, ".md"))},
                 {"chinese", documents_of(chinese(*load()))},
                 {"code", documents_of(files_of({"actors/control", "data", "model"}, ".cpp"))}};
  std::ofstream(kFolder / "texts.json") << nlohmann::json(texts);

  Seconds ours, reference;
  std::size_t our_tokens = 0, reference_tokens = 0;
  for (int round = 0; round < kRounds; ++round) {
    keep_best(reference, measure_reference(reference_tokens));
    keep_best(ours, measure_ours(texts, our_tokens));
    if (our_tokens != reference_tokens)
      give_up("ours makes " + std::to_string(our_tokens) + " tokens, the reference " +
              std::to_string(reference_tokens));
  }

  double all_bytes = 0, all_ours = 0, all_reference = 0;
  for (const auto& [name, documents] : texts) {
    const auto megabytes = static_cast<double>(bytes_of(documents)) / 1e6;
    print_speed("encode_" + name, megabytes, ours[name], reference[name], "MB/s");
    all_bytes += megabytes;
    all_ours += ours[name];
    all_reference += reference[name];
  }
  print_speed("encode_mixed", all_bytes, all_ours, all_reference, "MB/s");
  print_speed("decode", static_cast<double>(our_tokens) / 1e6, ours["decode"], reference["decode"],
              "million tokens/s");
  print_figure("tokenizer_load", ours["load"], reference["load"], "s", Better::less);
  return 0;
}
