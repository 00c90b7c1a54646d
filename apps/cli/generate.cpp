#include "apps/cli/generate.h"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <filesystem>
#include <iostream>
#include <span>
#include <thread>
#include <utility>

#include "actors/control/state_folder.h"
#include "apps/cli/output.h"
#include "apps/cli/shared_memory.h"
#include "apps/cli/stored_adapter.h"
#include "protocol/base_location.h"
#include "protocol/generate.pb.h"
#include "protocol/job_spec.h"

namespace crabcast::apps {
namespace {

constexpr std::size_t kLongestPrompt = 1U << 20;
constexpr std::uint32_t kMostNewTokens = 32'768;  // positions that Qwen2.5-Omni was trained on

Status check(const GenerateOptions& options) {
  if (options.prompt.empty()) return fail(Errc::invalid_argument, "--prompt is empty");
  if (options.temperature == 0 && options.top_p)
    return fail(Errc::invalid_argument,
                "--top-p is for drawing tokens, and at --temperature 0 none is drawn; give a "
                "--temperature above 0, or leave --top-p out");
  for (const auto& stop : options.stop)
    if (stop.empty()) return fail(Errc::invalid_argument, "--stop is empty");
  for (const auto& [option, file] :
       {std::pair("--video", options.video), std::pair("--image", options.image),
        std::pair("--audio", options.audio)}) {
    std::error_code error;
    if (!file.empty() && !std::filesystem::exists(file, error))
      return fail(error_from_errno(error ? error.value() : ENOENT, option + (": " + file)));
  }
  return {};
}

// Of the job that trained the adapter, where none is given.
Result<std::string> find_base(const Common& common, const GenerateOptions& options,
                              const pb::GenerateRequest& request) {
  std::string base = options.base;
  if (base.empty() && request.has_adapter()) {
    auto spec = parse_job_spec(request.adapter().spec_yaml(), request.adapter().source());
    if (!spec) return fail(spec.error().error());
    base = spec->model.base;
  }
  if (base.empty())
    return fail(Errc::invalid_argument,
                "--base is missing; only with --adapter job:JOB is it known, as the job's");
  return locate_base(base, actors::StateFolder{common.state}.bases());
}

// "-" is stdin, without the line break at its end.
Result<std::string> read_prompt(const std::string& given) {
  if (given != "-") return given;
  std::string text(kLongestPrompt + 1, '\0');
  std::cin.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::cin.gcount()));
  if (text.size() > kLongestPrompt)
    return fail(Errc::invalid_argument, "the prompt on stdin is longer than 1 MiB");
  if (text.ends_with('\n')) text.pop_back();
  if (text.empty()) return fail(Errc::invalid_argument, "there is no prompt on stdin");
  return text;
}

Result<pb::GenerateRequest> make_request(const Common& common, const GenerateOptions& options) {
  CRABCAST_TRY(check(options));
  pb::GenerateRequest request;
  if (is_stored_adapter(options.adapter)) {
    auto adapter = stored_adapter(common, options.adapter);
    if (!adapter) return fail(adapter.error());
    *request.mutable_adapter() = std::move(*adapter);
  } else {
    request.set_adapter_path(options.adapter);
    if (options.alpha) request.set_alpha(*options.alpha);
  }
  auto base = find_base(common, options, request);
  if (!base) return fail(base.error());
  auto prompt = read_prompt(options.prompt);
  if (!prompt) return fail(prompt.error());
  request.set_base(*base);
  request.set_video(options.video);
  request.set_image(options.image);
  request.set_audio(options.audio);
  request.set_data_set(options.data_set);
  request.set_frame_index(options.frame_index);
  request.set_prompt(*prompt);
  if (options.system) request.set_system(*options.system);
  request.set_max_new_tokens(options.max_new_tokens);
  request.set_temperature(options.temperature);
  request.set_top_p(options.top_p.value_or(1));
  request.set_seed(options.seed);
  for (const auto& stop : options.stop) request.add_stop(stop);
  request.set_device(options.device);
  request.set_precision(options.precision);
  request.set_threads(options.threads > 0 ? options.threads
                                          : std::max(1U, std::thread::hardware_concurrency()));
  request.set_json(common.json);
  return request;
}

Result<std::string> hand_over(const pb::GenerateRequest& request) {
  auto memory = SharedMemory::create();
  if (!memory) return fail(memory.error());
  const std::string bytes = request.SerializeAsString();
  CRABCAST_TRY(memory->append(std::as_bytes(std::span(bytes))));
  return std::move(*memory).hand_on();
}

}  // namespace

void takes_generate_options(CLI::App& verb, GenerateOptions& options) {
  verb.add_option("--base", options.base,
                  "A shipped base, an imported one, or a folder; of a job's adapter: the job's")
      ->type_name("BASE");
  verb.add_option("--adapter", options.adapter,
                  "job:JOB or a job's folder, with @CHECKPOINT behind it or else its newest; or "
                  "weights in a file or folder, as crabcast adapter inspect reads them")
      ->type_name("ADAPTER");
  verb.add_option("--alpha", options.alpha, "Of an adapter whose file does not say it")
      ->type_name("A");
  verb.add_option("--prompt", options.prompt, "The question; - reads stdin")
      ->required()
      ->type_name("TEXT");
  verb.add_option("--video", options.video, "Frames are taken of it, not its sound")
      ->type_name("FILE");
  verb.add_option("--image", options.image, "A picture")->type_name("FILE");
  verb.add_option("--audio", options.audio, "Sound; also a video file, for its sound track")
      ->type_name("FILE");
  verb.add_option("--data-set", options.data_set,
                  "Take frames and sound as training does for this data set")
      ->type_name("ID")
      ->capture_default_str();
  verb.add_option("--frame-index", options.frame_index,
                  "Second of the sound, for data sets that take one (s4, ms3, ref_avs)")
      ->type_name("N");
  verb.add_option("--system", options.system, "System text (default: that of training)")
      ->type_name("TEXT");
  verb.add_option("--max-new-tokens", options.max_new_tokens, "The answer ends after so many")
      ->type_name("N")
      ->check(CLI::Range(1U, kMostNewTokens).description(""))
      ->capture_default_str();
  verb.add_option("--temperature", options.temperature, "0: always the likeliest token")
      ->type_name("T")
      ->check(CLI::Range(0.0, 1e6).description(""))
      ->capture_default_str();
  verb.add_option("--top-p", options.top_p,
                  "Draw from the likeliest tokens that have this probability together (default: 1)")
      ->type_name("P")
      ->check(CLI::Range(1e-9, 1.0).description(""));
  verb.add_option("--seed", options.seed, "Same seed, same answer")
      ->type_name("N")
      ->capture_default_str();
  verb.add_option("--stop", options.stop, "End before this text; may be given several times")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb.add_option("--device", options.device, "cpu or cuda:0")
      ->type_name("DEVICE")
      ->capture_default_str();
  verb.add_option("--precision", options.precision,
                  "float32 or bfloat16 (default: the job's, or else as the base is stored)")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"float32", "bfloat16"}).description(""));
  verb.add_option("--threads", options.threads, "Threads to compute with (default: all cores)")
      ->type_name("N")
      ->check(CLI::Range(1U, 1024U).description(""));
}

Exit generate(const Common& common, const GenerateOptions& options) {
  auto request = make_request(common, options);
  if (!request) return complain(request.error(), common.json);
  auto place = hand_over(*request);
  if (!place) return complain(place.error(), common.json);
  return hand_on({"generate", *place});
}

}  // namespace crabcast::apps
