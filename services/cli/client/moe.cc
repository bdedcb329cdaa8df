// SPDX-License-Identifier: Apache-2.0
#include "services/cli/client/moe.h"

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/proto_conversions.h"
#include "services/cli/client/client.h"
#include "services/cli/commands.h"
#include "services/common/channel_factory.h"
#include "services/common/stubs.h"

namespace ccoe::cli {
namespace {

struct StatsFlags {
  ClientFlags client;
  int32_t layer = -1;
  int top = 5;
  bool json = false;
  bool reset = false;
  std::string heat_map;
};

absl::StatusOr<engine::MoeSnapshot> FetchSnapshot(const StatsFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto channel,
                        services::ChannelFactory(nullptr).Connect(flags.client.server));
  services::CallPolicy policy;
  policy.deadline = absl::Seconds(flags.client.timeout_seconds);
  v1::GetMoeStatisticsRequest request;
  if (flags.layer >= 0) request.set_layer(flags.layer);
  request.set_co_activation(true);
  request.set_reset(flags.reset);
  const auto statistics = services::MakeControlStub(channel, policy)->GetMoeStatistics(request);
  if (!statistics.ok()) return AtServer(statistics.status(), flags.client.server, *channel);
  auto snapshot = services::MoeSnapshotFromProto(*statistics);
  if (!snapshot.ok()) return AtServer(snapshot.status(), flags.client.server, *channel);
  return snapshot;
}

absl::Status Stats(const StatsFlags& flags) {
  const absl::StatusOr<engine::MoeSnapshot> snapshot = FetchSnapshot(flags);
  if (!snapshot.ok()) return snapshot.status();
  if (snapshot->layers.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("server ", flags.client.server,
                     ": expected a model with mixture-of-experts layers, found one without"));
  }
  if (!flags.heat_map.empty()) {
    CCOE_RETURN_IF_ERROR(WriteFileAtomically(flags.heat_map, {MoeHeatMap(*snapshot)}));
  }
  std::cout << (flags.json ? absl::StrCat(MoeJson(*snapshot), "\n")
                           : MoeTable(*snapshot, flags.top));
  return absl::OkStatus();
}

// Of the layer's rows, in percent.
double Percent(uint64_t count, const engine::LayerMoeCounts& layer) {
  return layer.rows == 0 ? 0.0
                         : 100.0 * static_cast<double>(count) / static_cast<double>(layer.rows);
}

std::string ExpertCell(std::vector<uint64_t>::const_iterator expert,
                       const engine::LayerMoeCounts& layer) {
  return absl::StrFormat("%d (%.1f %%)", expert - layer.tokens.begin(), Percent(*expert, layer));
}

std::string PairCell(const engine::LayerMoeCounts& layer) {
  const engine::ExpertPair pair = engine::MostCoActivated(layer);
  if (pair.rows == 0) return "-";
  return absl::StrFormat("%d + %d (%.1f %%)", pair.first, pair.second, Percent(pair.rows, layer));
}

void AppendLine(const engine::LayerMoeCounts& layer, std::string& out) {
  if (layer.rows == 0 || layer.tokens.empty()) {
    absl::StrAppendFormat(&out, "%5d %11d\n", layer.layer, layer.rows);
    return;
  }
  const auto coldest = std::min_element(layer.tokens.begin(), layer.tokens.end());
  const auto hottest = std::max_element(layer.tokens.begin(), layer.tokens.end());
  absl::StrAppendFormat(&out, "%5d %11d %9.3f  %-16s %-16s %s\n", layer.layer, layer.rows,
                        engine::Balancedness(layer.tokens), ExpertCell(hottest, layer),
                        ExpertCell(coldest, layer), PairCell(layer));
}

nlohmann::json CoActivation(const engine::LayerMoeCounts& layer) {
  const int64_t experts = layer.experts();
  std::vector<std::vector<uint64_t>> matrix(experts, std::vector<uint64_t>(experts));
  for (int64_t a = 0; a < experts; ++a) {
    matrix[a][a] = layer.tokens[a];
    for (int64_t b = a + 1; b < experts; ++b) {
      matrix[a][b] = matrix[b][a] = layer.pairs[engine::PairIndex(a, b, experts)];
    }
  }
  return matrix;
}

// Steps of colour: cells below the first bound get step 0, and so on.
constexpr double kBounds[] = {0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0};
constexpr int kSteps = static_cast<int>(std::size(kBounds)) + 1;

// One hue; more tokens stand out more from the ground, be it light or dark.
constexpr char kStyle[] = R"(<style>
  .ground { fill: #ffffff; }
  text { fill: #24292f; font: 11px system-ui, sans-serif; }
  .name { font-size: 14px; font-weight: 600; }
  .faint { fill: #57606a; }
  .edge { fill: none; stroke: #d0d7de; }
  .s0 { fill: #f1f5f9; } .s1 { fill: #dbe8f5; } .s2 { fill: #bcd6ec; }
  .s3 { fill: #94c0e1; } .s4 { fill: #63a3d3; } .s5 { fill: #3c84bf; }
  .s6 { fill: #2065a5; } .s7 { fill: #0d4684; } .s8 { fill: #06275a; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; }
    text { fill: #e6edf3; }
    .faint { fill: #9198a1; }
    .edge { stroke: #3d444d; }
    .s0 { fill: #161d27; } .s1 { fill: #152a42; } .s2 { fill: #163c63; }
    .s3 { fill: #1b5387; } .s4 { fill: #2a70ac; } .s5 { fill: #4a92cd; }
    .s6 { fill: #7cb5e3; } .s7 { fill: #b0d5f3; } .s8 { fill: #e5f3ff; }
  }
</style>
)";

constexpr int kLeft = 64;   // labels of the layers
constexpr int kRight = 72;  // balancedness
constexpr int kTop = 72;    // name, explanation, heading
constexpr int kLegendStep = 56;

int Clamped(int64_t value, int lowest, int highest) {
  return static_cast<int>(std::clamp<int64_t>(value, lowest, highest));
}

int StepOf(double load) {
  return static_cast<int>(std::upper_bound(std::begin(kBounds), std::end(kBounds), load) -
                          std::begin(kBounds));
}

class HeatMap {
 public:
  explicit HeatMap(const engine::MoeSnapshot& snapshot) : snapshot_(snapshot) {
    int64_t experts = 1;
    for (const engine::LayerMoeCounts& layer : snapshot.layers) {
      experts = std::max(experts, layer.experts());
    }
    const auto layers = static_cast<int64_t>(snapshot.layers.size());
    cell_width_ = Clamped(1200 / experts, 4, 28);
    cell_height_ = Clamped(900 / std::max<int64_t>(layers, 1), 8, 22);
    columns_width_ = cell_width_ * static_cast<int>(experts);
    rows_height_ = cell_height_ * static_cast<int>(layers);
    experts_ = experts;
  }

  std::string Document() {
    const int width = kLeft + std::max(columns_width_, kLegendStep * kSteps) + kRight;
    const int height = kTop + rows_height_ + 96;
    out_ = absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
        "viewBox=\"0 0 %d %d\" role=\"img\">\n"
        "<title>Load of FFN experts</title>\n"
        "<desc>A row for each mixture-of-experts layer, a cell for each expert, coloured by its "
        "tokens as a multiple of an even share of the layer.</desc>\n",
        width, height, width, height);
    absl::StrAppend(&out_, kStyle);
    absl::StrAppendFormat(&out_, "<rect class=\"ground\" width=\"%d\" height=\"%d\"/>\n", width,
                          height);
    Text(16, 24, "name", "Load of FFN experts");
    Text(16, 42, "faint", "Tokens of an expert, as a multiple of an even share of its layer.");
    Text(16, kTop - 8, "faint", "layer");
    Text(kLeft + columns_width_ + 8, kTop - 8, "faint", "balanced");
    for (size_t row = 0; row < snapshot_.layers.size(); ++row) Row(static_cast<int>(row));
    Axis();
    Legend();
    absl::StrAppend(&out_, "</svg>\n");
    return std::move(out_);
  }

 private:
  void Text(int x, int y, absl::string_view style, absl::string_view text) {
    absl::StrAppendFormat(&out_, "<text x=\"%d\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, style,
                          text);
  }

  void Row(int row) {
    const engine::LayerMoeCounts& layer = snapshot_.layers[row];
    const int y = kTop + row * cell_height_;
    const uint64_t sum = std::accumulate(layer.tokens.begin(), layer.tokens.end(), uint64_t{0});
    const double even =
        static_cast<double>(sum) / static_cast<double>(std::max<int64_t>(layer.experts(), 1));
    for (int32_t expert = 0; expert < layer.experts(); ++expert) {
      const double load = sum == 0 ? 0.0 : static_cast<double>(layer.tokens[expert]) / even;
      absl::StrAppendFormat(
          &out_,
          "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"s%d\"><title>layer %d, "
          "expert %d: %d tokens of %d rows, %.2f x an even share</title></rect>\n",
          kLeft + expert * cell_width_, y, cell_width_, cell_height_, StepOf(load), layer.layer,
          expert, layer.tokens[expert], layer.rows, load);
    }
    // Where rows are low, a label for every second or third.
    if (row % ((10 + cell_height_) / cell_height_) != 0) return;
    const int baseline = y + cell_height_ / 2 + 4;
    Text(24, baseline, "", absl::StrCat(layer.layer));
    Text(kLeft + columns_width_ + 8, baseline, "",
         absl::StrFormat("%.3f", engine::Balancedness(layer.tokens)));
  }

  void Axis() {
    const int y = kTop + rows_height_;
    absl::StrAppendFormat(&out_,
                          "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"edge\"/>\n",
                          kLeft, kTop, columns_width_, rows_height_);
    Text(16, y + 16, "faint", "expert");
    int64_t every = 1;
    while (every * cell_width_ < 28) every *= 2;
    for (int64_t expert = 0; expert < experts_; expert += every) {
      Text(kLeft + static_cast<int>(expert) * cell_width_ + 1, y + 16, "", absl::StrCat(expert));
    }
  }

  void Legend() {
    const int y = kTop + rows_height_ + 44;
    for (int step = 0; step < kSteps; ++step) {
      const int x = kLeft + step * kLegendStep;
      absl::StrAppendFormat(&out_,
                            "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"14\" class=\"s%d\"/>\n",
                            x, y, kLegendStep, step);
      Text(x, y + 28, "", step == 0 ? "0" : absl::StrCat(kBounds[step - 1]));
    }
    absl::StrAppendFormat(&out_,
                          "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"14\" class=\"edge\"/>\n",
                          kLeft, y, kLegendStep * kSteps);
    Text(16, y + 11, "faint", "x even");
  }

  const engine::MoeSnapshot& snapshot_;
  int64_t experts_ = 1;
  int cell_width_ = 0, cell_height_ = 0;     // pixels, as the rest
  int columns_width_ = 0, rows_height_ = 0;  // of all cells
  std::string out_;
};

}  // namespace

std::string MoeTable(const engine::MoeSnapshot& snapshot, int top) {
  std::string out =
      "layer        rows  balanced  hottest          coldest          together most\n";
  for (const engine::LayerMoeCounts& layer : snapshot.layers) AppendLine(layer, out);
  const std::vector<engine::HotExpert> hottest = engine::HotExperts(snapshot, top);
  if (!hottest.empty()) absl::StrAppend(&out, "\nhottest experts\n");
  for (const engine::HotExpert& hot : hottest) {
    absl::StrAppendFormat(&out, "  layer %d, expert %d: %.1f %% of the rows\n", hot.layer,
                          hot.expert, 100.0 * hot.share);
  }
  return out;
}

std::string MoeJson(const engine::MoeSnapshot& snapshot) {
  nlohmann::json layers = nlohmann::json::array();
  for (const engine::LayerMoeCounts& layer : snapshot.layers) {
    nlohmann::json json = {{"layer", layer.layer},
                           {"rows", layer.rows},
                           {"tokens", layer.tokens},
                           {"balancedness", engine::Balancedness(layer.tokens)}};
    if (!layer.pairs.empty()) json["co_activation"] = CoActivation(layer);
    layers.push_back(std::move(json));
  }
  return nlohmann::json{{"layers", std::move(layers)}}.dump();
}

std::string MoeHeatMap(const engine::MoeSnapshot& snapshot) { return HeatMap(snapshot).Document(); }

void RegisterMoe(CLI::App& app, CommandContext& context) {
  CLI::App* group = AddCommandGroup(app, "moe", "The gates of a running mixture-of-experts model.");
  auto flags = std::make_shared<StatsFlags>();
  CLI::App* command =
      AddCommand(*group, context, "stats",
                 "Shows which experts tokens choose, over all backbone workers since they started.",
                 [flags] { return Stats(*flags); });
  AddClientFlags(command, flags->client);
  AddFlag(command, "--layer", flags->layer, "Only this layer; -1: all.").Range(-1, 1 << 20);
  AddFlag(command, "--top", flags->top, "Hottest experts to list.").Range(0, 1 << 20);
  AddSwitch(command, "--json", flags->json,
            "Print JSON with all counts, as ccoe placement plan --from-stats reads it.");
  AddFlag(command, "--heat-map", flags->heat_map, "Also write layers x experts as an SVG file.");
  AddSwitch(command, "--reset", flags->reset, "Counting starts from zero after this.");
  AddNoEffect(command, context, [flags] { return flags->json; }, "with --json", {"--top"});
}

}  // namespace ccoe::cli
