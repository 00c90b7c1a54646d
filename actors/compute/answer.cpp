#include "actors/compute/answer.h"

#include <optional>
#include <utility>
#include <vector>

#include "actors/compute/adapter_weights.h"
#include "actors/compute/model_input.h"
#include "model/base_files.h"
#include "model/session.h"
#include "model/text_stream.h"
#include "protocol/base_location.h"
#include "protocol/clock.h"
#include "protocol/format.h"

namespace crabcast::actors {
namespace {

constexpr auto kDecodeDeadline = std::chrono::minutes(10);  // a person can interrupt it

Result<data::Sample> sample_of(const pb::GenerateRequest& request) {
  const auto all = data::datasets();
  const data::Dataset* like = data::find_dataset(request.data_set());
  if (like == nullptr) {
    std::vector<std::string> ids;
    for (const auto& dataset : all) ids.emplace_back(dataset.id);
    return fail(Errc::invalid_argument, "there is no data set " + excerpt(request.data_set()) +
                                            "; there are " + join_names(ids));
  }
  data::Sample sample;
  sample.dataset = static_cast<data::DatasetRow>(like - all.data());
  sample.frame_index = static_cast<int>(request.frame_index());
  sample.video = request.video();
  sample.image = request.image();
  sample.audio = request.audio();
  sample.question = request.prompt();
  return sample;
}

Result<Precision> stored_precision(const std::string& base) {
  if (is_shipped_base(base)) return Precision::float32;
  auto files = model::open_base_files(base);
  if (!files) return fail(files.error());
  return files->tensors.front().entry.type == at::kFloat ? Precision::float32 : Precision::bfloat16;
}

Result<Precision> precision_of(const pb::GenerateRequest& request,
                               const std::optional<AdapterWeights>& adapter) {
  for (const auto precision : {Precision::float32, Precision::bfloat16})
    if (request.precision() == to_string(precision)) return precision;
  if (adapter && adapter->precision) return *adapter->precision;
  return stored_precision(request.base());
}

Result<std::unique_ptr<model::Session>> open_session(const pb::GenerateRequest& request,
                                                     const std::optional<AdapterWeights>& adapter,
                                                     Precision precision) {
  model::SessionOptions options;
  options.model.base = request.base();
  options.with_adapter = adapter.has_value();
  if (adapter) options.model.adapter = adapter->spec;
  options.precision = precision;
  options.device = request.device();
  options.threads = static_cast<int>(request.threads());
  auto session = model::Session::open(options);
  if (!session || !adapter) return session;
  if (!adapter->base_hash.empty() && adapter->base_hash != (*session)->base_hash())
    return fail(Errc::invalid_argument, adapter->source +
                                            " was trained on another base, whose hash is " +
                                            adapter->base_hash + "; that of " + request.base() +
                                            " is " + (*session)->base_hash());
  if (auto loaded = (*session)->load_state(adapter->tensors, /*adapter_only=*/true); !loaded)
    return fail(loaded.error().within(adapter->source));
  return session;
}

}  // namespace

Result<Answer> answer(const pb::GenerateRequest& request,
                      const std::function<void(std::string_view)>& on_text) {
  const TimePoint begin = Clock::now();
  auto front_end = model::load_front_end(request.base());
  CRABCAST_TRY(front_end);
  auto sample = sample_of(request);
  CRABCAST_TRY(sample);
  auto processed =
      request.has_system()
          ? data::process_sample(*sample, *front_end, kDecodeDeadline, request.system())
          : data::process_sample(*sample, *front_end, kDecodeDeadline);
  CRABCAST_TRY(processed);
  auto adapter = read_adapter(request);
  CRABCAST_TRY(adapter);
  auto precision = precision_of(request, *adapter);
  CRABCAST_TRY(precision);
  auto session = open_session(request, *adapter, *precision);
  if (!session) return fail(session.error());
  if (*adapter) (*adapter)->tensors.clear();  // the session has copies
  const TimePoint loaded = Clock::now();

  Answer answer;
  model::TextStream stream(*front_end->tokenizer, {request.stop().begin(), request.stop().end()});
  const auto give_out = [&](const std::string& piece) {
    answer.text += piece;
    if (!piece.empty()) on_text(piece);
  };
  TimePoint first = loaded;
  model::GenerationOptions options;
  options.max_new_tokens = static_cast<int>(request.max_new_tokens());
  options.temperature = request.temperature();
  options.top_p = request.top_p();
  options.seed = request.seed();
  options.on_token = [&](std::size_t, model::TokenId id) {
    if (++answer.new_tokens == 1) first = Clock::now();
    give_out(stream.add(id));
    return !stream.stopped();
  };
  const model::ModelInput input = prompt_input({std::move(*processed)}, *front_end);
  auto generated = (*session)->generate(input, options);
  CRABCAST_TRY(generated);
  give_out(stream.finish());

  const bool ended = generated->front().ending == model::Ending::end_token;
  answer.ending = stream.stopped() ? "stop" : ended ? "end" : "length";
  answer.prompt_tokens = static_cast<std::uint64_t>(input.input_ids.size(1));
  const TimePoint done = Clock::now();
  if (answer.new_tokens == 0) first = done;
  answer.load_seconds = seconds(loaded - begin);
  answer.prompt_seconds = seconds(first - loaded);
  answer.decode_seconds = seconds(done - first);
  answer.base_hash = (*session)->base_hash();
  answer.precision = to_string(*precision);
  if (*adapter) answer.adapter = (*adapter)->source;
  return answer;
}

}  // namespace crabcast::actors
