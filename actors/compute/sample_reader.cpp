#include "actors/compute/sample_reader.h"

#include <spdlog/spdlog.h>

#include "protocol/sums.h"

namespace crabcast::actors {
namespace {

constexpr auto kSampleDeadline = std::chrono::seconds(20);

void add_work(const data::StageTimes& times, bool cached, pb::LoaderWork& work) {
  const auto seconds_of = [&](data::Stage stage) {
    return static_cast<double>(times[static_cast<std::size_t>(stage)]) * 1e-9;
  };
  pb::LoaderWork one;
  one.set_demux(seconds_of(data::Stage::demux));
  one.set_decode(seconds_of(data::Stage::decode));
  one.set_scale(seconds_of(data::Stage::scale));
  one.set_audio(seconds_of(data::Stage::audio));
  one.set_log_mel(seconds_of(data::Stage::log_mel));
  one.set_patches(seconds_of(data::Stage::patches));
  one.set_samples(1);
  one.set_cached(cached ? 1 : 0);
  add_to(work, one);
}

// A clip that was changed since it was first read makes a replay another run. Only of files that
// could be decoded: one that hangs whoever reads it must not hang this process.
void look_for_changes(data::MediaMarks& marks, const std::vector<data::FileContent>& files) {
  for (const auto& file : files)
    if (marks.check(file) == data::MediaState::changed)
      spdlog::warn("{} was changed since it was first read", file.path.string());
}

}  // namespace

bool is_bad_sample(const Error& error) {
  return error.code == Errc::data_error || error.code == Errc::timeout ||
         error.code == Errc::not_found || error.code == Errc::permission_denied ||
         error.code == Errc::io_error;
}

Result<std::unique_ptr<SampleReader>> SampleReader::open(const MemberProcess& process,
                                                         model::BaseFrontEnd front_end,
                                                         int children,
                                                         std::unique_ptr<data::MediaMarks> marks) {
  data::DecodePoolOptions options;
  options.children = children;
  auto pool = data::DecodePool::start(options);
  if (!pool) return fail(pool.error());
  std::unique_ptr<data::SampleCache> cache;
  if (const auto bytes = process.spec.data.cache.samples; bytes > 0) {
    auto opened = data::SampleCache::open(process.launch.cache_dir() + "/samples", bytes);
    if (opened)
      cache = std::move(*opened);
    else
      spdlog::warn("samples are decoded anew in every epoch: {}", opened.error().message);
  }
  return std::unique_ptr<SampleReader>(
      new SampleReader(std::move(front_end), std::move(*pool), std::move(cache), std::move(marks)));
}

Result<data::SampleCache::Answer> SampleReader::media_of(const data::Sample& sample) const {
  const auto decode = [&] { return pool_->read(sample, front_end_.media, kSampleDeadline); };
  if (cache_ != nullptr) return cache_->get(sample, front_end_.media, decode);
  // Stamps first: a file that is written meanwhile has a later one. What is missing, decoding says.
  auto files = data::stat_media(sample).value_or(std::vector<data::FileContent>());
  auto media = decode();
  if (!media) return fail(media.error());
  return data::SampleCache::Answer{std::move(*media), false, std::move(files)};
}

Result<data::Processed> SampleReader::read(const data::Sample& sample, pb::LoaderWork& work) const {
  auto answer = media_of(sample);
  if (!answer) return fail(answer.error());
  if (marks_ != nullptr) look_for_changes(*marks_, answer->files);
  add_work(answer->media.times, answer->cached, work);
  return data::with_prompt(sample, std::move(answer->media), front_end_);
}

}  // namespace crabcast::actors
