#include "model/strict_json.h"

#include <set>
#include <string>
#include <vector>

#include "protocol/format.h"

namespace crabcast::model {
namespace {

using nlohmann::json;

constexpr std::size_t kMostLevels = 32;

// Looks at the text without keeping a value, so that nothing hostile is built up in memory.
class Examiner final : public nlohmann::json_sax<json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }

  bool key(string_t& name) override {
    if (names_.back().insert(name).second) return true;
    problem = "the name \"" + excerpt(name, 200) + "\" stands twice in one object";
    return false;
  }

  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // "[json.exception...] parse error at line 2, column 7: what is wrong"
    problem = error.what();
    if (const auto end = problem.find("] "); end != std::string::npos) problem.erase(0, end + 2);
    problem = excerpt(problem, 200);
    return false;
  }

  std::string problem;

 private:
  bool enter() {
    names_.emplace_back();
    if (names_.size() <= kMostLevels) return true;
    problem = "it has more than " + std::to_string(kMostLevels) + " levels";
    return false;
  }
  bool leave() {
    names_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> names_;  // of each open object
};

}  // namespace

Result<json> parse_strict_json(std::string_view text) {
  Examiner examiner;
  if (!json::sax_parse(text, &examiner))
    return fail(Errc::corrupt, "no valid JSON: " + examiner.problem);
  return json::parse(text);
}

}  // namespace crabcast::model
