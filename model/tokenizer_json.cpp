#include "model/tokenizer_json.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "model/unicode.h"
#include "model/word_split.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

using Json = nlohmann::json;

constexpr std::uintmax_t kMostBytes = 64U << 20;  // Qwen2.5-Omni's file has 11 MB
constexpr int kDeepest = 32;                      // its values lie 5 deep
constexpr const char* kAdvice = "; use the tokenizer.json of Qwen2.5-Omni";

std::string quoted(const std::string& text) {
  return '"' + excerpt(replace_invalid_utf8(text)) + '"';
}

std::string shown(const Json& value) {
  return excerpt(value.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace), 200);
}

// ---- JSON ---------------------------------------------------------------------------------------

// The vocabulary and the merges are hundreds of thousands of values: they are taken out while the
// text is parsed, and the rest becomes a Json.
struct File {
  Json rest;  // model/vocab and model/merges are empty in it
  std::vector<std::pair<std::string, Json>> vocabulary;
  std::vector<Json> merges;
};

struct TooDeep {};

// What Json::parse calls for each value and key; it keeps those for which this is true.
class Collector {
 public:
  explicit Collector(File& file) : file_(file) {}

  bool operator()(int depth, Json::parse_event_t event, Json& value) {
    if (depth > kDeepest) throw TooDeep();
    const bool is_key = event == Json::parse_event_t::key;
    if (is_key && depth == 1) in_model_ = value == "model";
    if (is_key && depth <= 2) field_ = value.get<std::string>();
    if (!in_model_ || depth != 3) return true;
    if (field_ == "vocab") return take_entry(event, value);
    if (field_ == "merges") return take_merge(event, value);
    return true;
  }

 private:
  // An id that is a list or an object stays null.
  bool take_entry(Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::key)
      file_.vocabulary.emplace_back(value.get<std::string>(), Json());
    else if (event == Json::parse_event_t::value && !file_.vocabulary.empty())
      file_.vocabulary.back().second = std::move(value);
    return false;
  }
  // A list comes when it is complete.
  bool take_merge(Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::array_start || event == Event::object_start) return true;
    file_.merges.push_back(std::move(value));
    return false;
  }

  File& file_;
  bool in_model_ = false;
  std::string field_;  // of the file or of the model
};

Result<File> parse_json(std::string_view text) {
  File file;
  try {
    file.rest = Json::parse(text, Collector(file));
    return file;
  } catch (const TooDeep&) {
    return fail(Errc::corrupt, "its values lie more than " + std::to_string(kDeepest) +
                                   " deep; this is no tokenizer.json");
  } catch (const Json::exception& problem) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: what is wrong"
    std::string_view what = problem.what();
    if (const auto end = what.find("] "); end != std::string_view::npos)
      what.remove_prefix(end + 2);
    return fail(Errc::corrupt,
                "broken JSON: " + excerpt(replace_invalid_utf8(what), 300) + "; copy it again");
  }
}

// ---- What the file asks for ---------------------------------------------------------------------

struct Setting {
  const char* where;  // JSON pointer; a field that is not there counts as null
  std::vector<Json> allowed;
};

// What this tokenizer does. Fields that change no id (offsets) are not looked at.
const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"/truncation", {nullptr}},
      {"/padding", {nullptr}},
      {"/normalizer/type", {"NFC"}},
      {"/pre_tokenizer/type", {"Sequence"}},
      {"/pre_tokenizer/pretokenizers/0/type", {"Split"}},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", {kQwen2Pattern}},
      {"/pre_tokenizer/pretokenizers/0/behavior", {"Isolated"}},
      {"/pre_tokenizer/pretokenizers/0/invert", {false}},
      {"/pre_tokenizer/pretokenizers/1/type", {"ByteLevel"}},
      {"/pre_tokenizer/pretokenizers/1/add_prefix_space", {false}},
      {"/pre_tokenizer/pretokenizers/1/use_regex", {false}},
      {"/pre_tokenizer/pretokenizers/2", {nullptr}},
      {"/post_processor/type", {"ByteLevel", nullptr}},
      {"/decoder/type", {"ByteLevel"}},
      {"/model/type", {"BPE"}},
      {"/model/dropout", {nullptr, 0.0}},
      {"/model/unk_token", {nullptr}},
      {"/model/continuing_subword_prefix", {nullptr, ""}},
      {"/model/end_of_word_suffix", {nullptr, ""}},
      {"/model/byte_fallback", {false, nullptr}},
      {"/model/ignore_merges", {false, nullptr}},
  };
  return all;
}

Status check_settings(const Json& file) {
  for (const Setting& setting : settings()) {
    const Json::json_pointer where(setting.where);
    const Json value = file.contains(where) ? file.at(where) : Json();
    const auto& allowed = setting.allowed;
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) continue;
    return fail(Errc::unsupported, std::string(setting.where).substr(1) + " is " + shown(value) +
                                       ", and this tokenizer knows only " + shown(allowed[0]) +
                                       kAdvice);
  }
  return {};
}

// ---- Tokens -------------------------------------------------------------------------------------

// Byte-level vocabularies spell each byte as one letter: itself where that can be seen, or else the
// next free letter from U+0100 on.
constexpr std::size_t kByteLetters = 0x144;
struct ByteLetters {
  std::array<std::string, 256> letter;            // UTF-8
  std::array<std::int16_t, kByteLetters> byte{};  // by code point; -1 = stands for none

  ByteLetters() {
    byte.fill(-1);
    int next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool seen = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
      const int code = seen ? b : next++;
      byte[code] = static_cast<std::int16_t>(b);
      if (code >= 0x80) letter[b] += static_cast<char>(0xC0 | code >> 6);
      letter[b] += static_cast<char>(code < 0x80 ? code : 0x80 | (code & 0x3F));
    }
  }
  // The bytes that a token spells; nothing when a letter stands for no byte.
  [[nodiscard]] std::optional<std::string> bytes_of(const std::string& spelled) const {
    std::string bytes;
    for (std::size_t at = 0; at < spelled.size();) {
      UChar32 code = 0;
      U8_NEXT_UNSAFE(spelled, at, code);
      if (static_cast<std::size_t>(code) >= kByteLetters || byte[code] < 0) return std::nullopt;
      bytes += static_cast<char>(byte[code]);
    }
    return bytes;
  }
};

class Reader {
 public:
  explicit Reader(const File& file) : file_(file) {}
  Result<BpeVocabulary> read();

 private:
  Status read_added();
  Status read_vocabulary();
  Status read_merges();
  Status check_special() const;
  Status place(const std::string& token, const Json& id, std::string bytes);
  Result<TokenId> token_of(std::string_view spelled) const;

  const File& file_;
  const ByteLetters letters_;
  BpeVocabulary out_;
  std::vector<const std::string*> owners_;  // by id: the token as the file spells it
  std::unordered_map<std::string_view, TokenId> vocabulary_;
};

Result<BpeVocabulary> Reader::read() {
  const Json& model = file_.rest["model"];
  if (!model.contains("vocab") || !model["vocab"].is_object())
    return fail(Errc::corrupt, "model/vocab must be an object of tokens and ids");
  if (!model.contains("merges") || !model["merges"].is_array())
    return fail(Errc::corrupt, "model/merges must be a list");
  CRABCAST_TRY(read_added());
  CRABCAST_TRY(read_vocabulary());
  CRABCAST_TRY(read_merges());
  CRABCAST_TRY(check_special());
  return std::move(out_);
}

// Gives the token its id. Ids that are all below the number of tokens and differ leave no gap.
Status Reader::place(const std::string& token, const Json& id, std::string bytes) {
  const auto count = owners_.size();
  if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= count)
    return fail(Errc::corrupt, "the token " + quoted(token) + " has the id " + shown(id) +
                                   ", but the " + std::to_string(count) +
                                   " tokens have the ids from 0 to " + std::to_string(count - 1));
  const auto at = id.get<std::size_t>();
  if (owners_[at] != nullptr)
    return fail(Errc::corrupt, "the tokens " + quoted(*owners_[at]) + " and " + quoted(token) +
                                   " have the same id " + std::to_string(at));
  owners_[at] = &token;
  out_.tokens[at] = std::move(bytes);
  return {};
}

// Added tokens may stand in the vocabulary too, with the same id.
Status Reader::read_added() {
  const auto list = file_.rest.find("added_tokens");
  if (list == file_.rest.end() || !list->is_array())
    return fail(Errc::corrupt, "added_tokens must be a list");
  std::unordered_map<std::string_view, const Json*> ids;
  for (const Json& token : *list) {
    const auto flag = [&](const char* name) {
      const auto found = token.find(name);
      return found != token.end() && found->is_boolean() ? std::optional(found->get<bool>())
                                                         : std::nullopt;
    };
    if (!token.is_object() || !token.contains("id") || !flag("special") ||
        !token.contains("content") || !token["content"].is_string() || token["content"] == "")
      return fail(Errc::corrupt,
                  "an entry of added_tokens lacks an id, a content or whether it is special: " +
                      shown(token));
    const auto& content = token["content"].get_ref<const std::string&>();
    if (!ids.emplace(content, &token["id"]).second)
      return fail(Errc::corrupt, "the added token " + quoted(content) + " is listed twice");
    for (const char* name : {"single_word", "lstrip", "rstrip", "normalized"})
      if (flag(name) != false)
        return fail(Errc::unsupported, "the added token " + quoted(content) + " has " + name +
                                           " other than false" + kAdvice);
  }

  std::size_t count = list->size();
  for (const auto& [token, id] : file_.vocabulary) {
    const auto added = ids.find(token);
    if (added == ids.end())
      ++count;
    else if (id != *added->second)
      return fail(Errc::corrupt, "the token " + quoted(token) + " has the id " + shown(id) +
                                     " in model/vocab and " + shown(*added->second) +
                                     " in added_tokens");
  }
  owners_.resize(count);
  out_.tokens.resize(count);
  for (const Json& token : *list) {
    const auto& content = token["content"].get_ref<const std::string&>();
    CRABCAST_TRY(place(content, token["id"], letters_.bytes_of(content).value_or(content)));
    out_.added.push_back({content, token["id"].get<TokenId>(), token["special"].get<bool>()});
  }
  return {};
}

Status Reader::read_vocabulary() {
  std::unordered_set<std::string_view> added;
  for (const AddedToken& token : out_.added) added.insert(token.content);
  vocabulary_.reserve(file_.vocabulary.size());
  for (const auto& [token, id] : file_.vocabulary) {
    if (!added.contains(token)) {
      auto bytes = letters_.bytes_of(token);
      if (!bytes || bytes->empty())
        return fail(Errc::unsupported, "the token " + quoted(token) +
                                           " is not spelled in the letters of a byte-level "
                                           "vocabulary" +
                                           kAdvice);
      CRABCAST_TRY(place(token, id, std::move(*bytes)));
    }
    if (!vocabulary_.emplace(token, id.get<TokenId>()).second)
      return fail(Errc::corrupt, "model/vocab lists the token " + quoted(token) + " twice");
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = token_of(letters_.letter[byte]);
    if (!id) return fail(id.error().within("the byte " + std::to_string(byte)));
    out_.byte_tokens[byte] = *id;
  }
  return {};
}

Result<TokenId> Reader::token_of(std::string_view spelled) const {
  const auto found = vocabulary_.find(spelled);
  if (found == vocabulary_.end())
    return fail(Errc::corrupt, "model/vocab has no token " + quoted(std::string(spelled)));
  return found->second;
}

// A merge is ["left", "right"] or, in older files, "left right".
Status Reader::read_merges() {
  out_.merges.reserve(file_.merges.size());
  for (const Json& merge : file_.merges) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get_ref<const std::string&>();
      right = merge[1].get_ref<const std::string&>();
    } else if (merge.is_string()) {
      const auto& both = merge.get_ref<const std::string&>();
      const auto space = std::min(both.find(' '), both.size());
      left = both.substr(0, space);
      right = both.substr(std::min(space + 1, both.size()));
    }
    const auto left_id = token_of(left), right_id = token_of(right),
               joined = token_of(left + right);
    for (const auto* part : {&left_id, &right_id, &joined})
      if (!*part)
        return fail(part->error().within("merge " + std::to_string(out_.merges.size()) + ", " +
                                         shown(merge)));
    out_.merges.push_back({*left_id, *right_id, *joined});
  }
  return {};
}

// Plain text must never become a special token.
Status Reader::check_special() const {
  for (const AddedToken& token : out_.added) {
    const auto& bytes = out_.byte_tokens;
    const bool made = std::find(bytes.begin(), bytes.end(), token.id) != bytes.end() ||
                      std::any_of(out_.merges.begin(), out_.merges.end(),
                                  [&](const Merge& merge) { return merge.joined == token.id; });
    if (token.special && made)
      return fail(Errc::corrupt,
                  "the special token " + quoted(token.content) + " is also made of plain text");
  }
  return {};
}

}  // namespace

Result<BpeVocabulary> parse_tokenizer_json(std::string_view text) {
  const auto file = parse_json(text);
  if (!file) return fail(file.error());
  CRABCAST_TRY(check_settings(file->rest));
  return Reader(*file).read();
}

Result<std::string> read_tokenizer_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status))
    return fail(Errc::not_found, "there is no such file; a base in Hugging Face's layout has it");
  const auto size = std::filesystem::file_size(path, error);  // fails for what is no file
  if (error || size > kMostBytes)
    return fail(Errc::invalid_argument, "is no tokenizer.json: not a file of at most 64 MiB");
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size)))
    return fail(error_from_errno(errno, "cannot be read"));
  return text;
}

}  // namespace crabcast::model
