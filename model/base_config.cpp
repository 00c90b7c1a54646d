#include "model/base_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "model/base_config_fields.h"
#include "model/disk_file.h"
#include "model/strict_json.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMostBytes = 4ULL << 20;
constexpr std::size_t kListedProblems = 20;
constexpr double kLargestNumber = 1e9;
constexpr const char* kPlainWeights = "weights in float32, bfloat16 or float16";

std::string value_text(const json& value) {
  return excerpt(value.dump(), 80);
}

// The member of that name; null is missing.
const json* member(const json& object, const std::string& name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

class Reader {
 public:
  Reader(const json& thinker, std::string root, BaseConfig& out)
      : thinker_(thinker), root_(std::move(root)), out_(out) {
    for (const char* section : kSections)
      if (const json* there = member(thinker_, section); there != nullptr && !there->is_object())
        refuse(root_ + section, value_text(*there), "a mapping");
  }

  void read() {
    for (const WholeField& field : whole_fields()) read_whole(field);
    for (const FixedField& field : fixed_fields())
      check_fixed(path(field.part, field.name), find(field.part, field.name), field.supported);
    ThinkerConfig& c = out_.config;
    c.text.rms_norm_eps = number(Part::text, "rms_norm_eps", kRmsNormEps);
    c.position_id_per_seconds =
        number(Part::thinker, "position_id_per_seconds", kPositionsPerSecond);
    c.vision.full_attention_blocks =
        whole_list(path(Part::vision, "fullatt_block_indexes"),
                   find(Part::vision, "fullatt_block_indexes"), kFullAttentionBlocks);
    read_head_width();
    read_text_rope();
    check_vision_rope();
    check_layer_types();
    // The thinker's own flag decides, not that of its text_config.
    if (const json* tie = find(Part::thinker, "tie_word_embeddings")) {
      if (tie->is_boolean())
        c.tie_word_embeddings = tie->get<bool>();
      else
        refuse(path(Part::thinker, "tie_word_embeddings"), value_text(*tie), "true or false");
    }
    for (const Part part : {Part::thinker, Part::text, Part::vision, Part::audio})
      if (find(part, "quantization_config") != nullptr)
        refuse(path(part, "quantization_config"), "there", kPlainWeights);
    if (out_.problems.empty()) check_sizes();
  }

 private:
  [[nodiscard]] std::string path(Part part, const std::string& name) const {
    const std::string section = kSections[static_cast<std::size_t>(part)];
    return root_ + section + (section.empty() ? "" : ".") + name;
  }

  [[nodiscard]] const json* find(Part part, const std::string& name) const {
    if (part == Part::thinker) return member(thinker_, name);
    const json* section = member(thinker_, kSections[static_cast<std::size_t>(part)]);
    return section == nullptr ? nullptr : member(*section, name);
  }

  void refuse(const std::string& field, const std::string& found, const std::string& supported) {
    out_.problems.push_back(field + " is " + found + "; supported: " + supported);
  }

  static bool is_whole(const json& value, std::int64_t low, std::int64_t high) {
    return value.is_number_integer() &&
           (!value.is_number_unsigned() ||
            value.get<std::uint64_t>() <= static_cast<std::uint64_t>(high)) &&
           value.get<std::int64_t>() >= low && value.get<std::int64_t>() <= high;
  }

  void read_whole(const WholeField& field) {
    const json* value = find(field.part, field.name);
    const char* name = field.name;
    if (field.other_name != nullptr) {
      const json* other = find(field.part, field.other_name);
      if (value != nullptr && other != nullptr && *value != *other)
        refuse(path(field.part, field.name), value_text(*value),
               "the same value as " + std::string(field.other_name) + ", which is " +
                   value_text(*other));
      if (value == nullptr && other != nullptr) {
        value = other;
        name = field.other_name;
      }
    }
    field.at(out_.config) = field.standard;
    if (value == nullptr) return;
    if (is_whole(*value, field.low, field.high))
      field.at(out_.config) = value->get<std::int64_t>();
    else
      refuse(path(field.part, name), value_text(*value),
             field.low == field.high ? std::to_string(field.low)
                                     : "whole numbers from " + std::to_string(field.low) + " to " +
                                           std::to_string(field.high));
  }

  void check_fixed(const std::string& field, const json* value, const json& supported) {
    if (value != nullptr && *value != supported)
      refuse(field, value_text(*value), supported.dump());
  }

  double number(Part part, const std::string& name, double standard) {
    return positive(path(part, name), find(part, name), standard);
  }
  double positive(const std::string& field, const json* value, double standard) {
    if (value == nullptr) return standard;
    if (value->is_number() && value->get<double>() > 0 && value->get<double>() <= kLargestNumber)
      return value->get<double>();
    refuse(field, value_text(*value), "numbers above 0 and up to a billion");
    return standard;
  }

  std::vector<std::int64_t> whole_list(const std::string& field, const json* value,
                                       std::span<const std::int64_t> standard) {
    if (value == nullptr) return {standard.begin(), standard.end()};
    if (value->is_array() && std::all_of(value->begin(), value->end(), [](const json& one) {
          return is_whole(one, 0, kMostWidth);
        }))
      return value->get<std::vector<std::int64_t>>();
    refuse(field, value_text(*value), "a list of whole numbers");
    return {standard.begin(), standard.end()};
  }

  void read_head_width() {
    TextConfig& text = out_.config.text;
    text.head_dim = text.hidden_size / text.heads;
    const json* value = find(Part::text, "head_dim");
    if (value == nullptr) {
      if (text.hidden_size % text.heads != 0)
        refuse(path(Part::text, "num_attention_heads"), std::to_string(text.heads),
               "divisors of hidden_size " + std::to_string(text.hidden_size));
    } else if (is_whole(*value, 1, kMostWidth)) {
      text.head_dim = value->get<std::int64_t>();
    } else {
      refuse(path(Part::text, "head_dim"), value_text(*value), "whole numbers from 1");
    }
  }

  // transformers 5 writes rope_parameters; before, there was rope_scaling beside rope_theta. Where
  // both are, transformers takes rope_scaling.
  [[nodiscard]] std::pair<std::string, const json*> find_rope(Part part) const {
    for (const char* name : {"rope_scaling", "rope_parameters"})
      if (const json* rope = find(part, name); rope != nullptr && !rope->empty())
        return {path(part, name), rope};
    return {path(part, "rope_parameters"), nullptr};
  }

  // Refuses a kind that is not in `kinds`, and fields that are not in `known`, but for those that
  // are null or false and so ask for nothing.
  void check_rope(const std::string& field, const json* rope, const std::vector<std::string>& kinds,
                  const std::vector<std::string>& known) {
    if (rope == nullptr) return;
    if (!rope->is_object()) return refuse(field, value_text(*rope), "a mapping");
    const json* kind = member(*rope, "rope_type");
    const std::string kind_name = kind != nullptr ? "rope_type" : "type";
    if (kind == nullptr) kind = member(*rope, "type");
    if (kind != nullptr && std::find(kinds.begin(), kinds.end(), *kind) == kinds.end())
      refuse(field + "." + kind_name, value_text(*kind), join_names(kinds, " or "));
    for (const auto& [name, value] : rope->items())
      if (name != "rope_type" && name != "type" && !value.is_null() && value != false &&
          std::find(known.begin(), known.end(), name) == known.end())
        refuse(field + "." + name, value_text(value), join_names(known) + " only");
  }

  void read_text_rope() {
    const auto [field, rope] = find_rope(Part::text);
    // "mrope" is what version 4 of transformers takes for the same.
    check_rope(field, rope, {"default", "mrope"}, {"rope_theta", "mrope_section"});
    TextConfig& text = out_.config.text;
    const json* theta = rope == nullptr ? nullptr : member(*rope, "rope_theta");
    text.rope_theta = theta != nullptr ? positive(field + ".rope_theta", theta, kRopeTheta)
                                       : number(Part::text, "rope_theta", kRopeTheta);
    const auto section =
        whole_list(field + ".mrope_section",
                   rope == nullptr ? nullptr : member(*rope, "mrope_section"), kMropeSection);
    const std::int64_t half = text.head_dim / 2;
    if (section.size() != 3 || section[0] + section[1] + section[2] != half ||
        text.head_dim % 2 != 0)
      return refuse(
          field + ".mrope_section", value_text(section),
          "three sizes that add up to half of the head's width " + std::to_string(text.head_dim));
    std::copy(section.begin(), section.end(), text.mrope_section.begin());
  }

  void check_vision_rope() {
    const auto [field, rope] = find_rope(Part::vision);
    check_rope(field, rope, {"axial", "default"}, {"rope_theta"});
    if (rope != nullptr)
      check_fixed(field + ".rope_theta", member(*rope, "rope_theta"), kVisionRopeTheta);
  }

  void check_layer_types() {
    const json* types = find(Part::text, "layer_types");
    if (types == nullptr) return;
    const json full = "full_attention";
    if (!types->is_array() ||
        std::any_of(types->begin(), types->end(), [&](const json& type) { return type != full; }))
      refuse(path(Part::text, "layer_types"), value_text(*types), "full_attention everywhere");
  }

  void expect(bool kept, Part part, const char* name, std::int64_t found,
              const std::string& supported) {
    if (!kept) refuse(path(part, name), std::to_string(found), supported);
  }

  // What the fields must be to one another. Each was read and is in its range.
  void check_sizes() {
    const TextConfig& text = out_.config.text;
    const VisionConfig& vision = out_.config.vision;
    const AudioConfig& audio = out_.config.audio;
    const SpecialTokens& special = out_.config.special;
    expect(text.heads % text.kv_heads == 0, Part::text, "num_key_value_heads", text.kv_heads,
           "divisors of num_attention_heads " + std::to_string(text.heads));
    expect(vision.hidden_size % vision.heads == 0 && vision.hidden_size / vision.heads % 4 == 0,
           Part::vision, "num_heads", vision.heads,
           "heads of hidden_size " + std::to_string(vision.hidden_size) +
               " whose width is a multiple of 4");
    expect(vision.out_hidden_size == text.hidden_size, Part::vision, "out_hidden_size",
           vision.out_hidden_size, "text_config.hidden_size " + std::to_string(text.hidden_size));
    const std::int64_t merged = vision.patch_size * vision.spatial_merge_size;
    expect(vision.window_size >= merged, Part::vision, "window_size", vision.window_size,
           "at least patch_size x spatial_merge_size, which is " + std::to_string(merged));
    expect(audio.d_model % audio.heads == 0 && audio.d_model % 2 == 0, Part::audio, "d_model",
           audio.d_model,
           "even multiples of encoder_attention_heads " + std::to_string(audio.heads));
    expect(audio.output_dim == text.hidden_size, Part::audio, "output_dim", audio.output_dim,
           "text_config.hidden_size " + std::to_string(text.hidden_size));
    expect(audio.n_window <= audio.max_source_positions, Part::audio, "n_window", audio.n_window,
           "at most max_source_positions " + std::to_string(audio.max_source_positions));
    for (const WholeField& field : whole_fields())
      if (field.part == Part::thinker)
        expect(field.at(out_.config) < text.vocab_size, Part::thinker, field.name,
               field.at(out_.config),
               "ids below text_config.vocab_size " + std::to_string(text.vocab_size) +
                   (find(Part::thinker, field.name) == nullptr ? " (the field is missing)" : ""));
    if (special.audio == special.image || special.audio == special.video ||
        special.image == special.video)
      out_.problems.push_back(root_ +
                              "audio_token_index, image_token_index and video_token_index "
                              "must differ");
  }

  const json& thinker_;
  const std::string root_;
  BaseConfig& out_;
};

}  // namespace

Result<BaseConfig> read_base_config(const std::filesystem::path& folder) {
  const auto file = folder / "config.json";
  auto text = read_whole_file(file, kMostBytes);
  if (!text) return fail(text.error());
  auto parsed = parse_strict_json(*text);
  if (!parsed) return fail(parsed.error().within(file.string()));
  if (!parsed->is_object()) return fail(Errc::corrupt, file.string() + ": it is no JSON object");
  const json& whole = *parsed;

  BaseConfig out;
  const bool nested = whole.contains("thinker_config");
  const json& thinker = nested ? whole["thinker_config"] : whole;
  const std::string supported = nested ? "qwen2_5_omni" : "qwen2_5_omni_thinker";
  const json type = whole.value("model_type", json());
  out.model_type = type.is_string() ? type.get<std::string>() : value_text(type);
  if (type != supported)
    out.problems.push_back("model_type is " + value_text(type) + "; supported: \"" + supported +
                           "\"" + (nested ? "" : ", or \"qwen2_5_omni\" with a thinker_config"));
  else if (!thinker.is_object())
    out.problems.push_back("thinker_config is " + value_text(thinker) + "; supported: a mapping");
  else
    Reader(thinker, nested ? "thinker_config." : "", out).read();
  if (nested && member(whole, "quantization_config") != nullptr)
    out.problems.push_back(std::string("quantization_config is there; supported: ") +
                           kPlainWeights);
  return out;
}

Result<ThinkerConfig> read_thinker_config(const std::filesystem::path& folder) {
  auto read = read_base_config(folder);
  if (!read) return fail(read.error());
  if (!read->problems.empty())
    return fail(Errc::unsupported,
                (folder / "config.json").string() + ": " + list_problems(read->problems));
  return std::move(read->config);
}

std::string list_problems(const std::vector<std::string>& problems) {
  const std::size_t listed = std::min(problems.size(), kListedProblems);
  std::string text = join_names(std::span(problems).first(listed), "; ");
  if (listed < problems.size())
    text += "; and " + std::to_string(problems.size() - listed) + " more";
  return text;
}

}  // namespace crabcast::model
