// Draws one dashboard with Grafana's own components, from its JSON and from what Prometheus answered to its queries.
// What Grafana's server does besides (variables, menus, reloading) is not here: it is a picture, captioned as such.
import {
  DataFrame,
  DisplayValue,
  Field,
  FieldType,
  createTheme,
  dateTime,
  formattedValueToString,
  getDisplayProcessor,
  getFieldDisplayName,
} from '@grafana/data';
import { BarGaugeDisplayMode, BigValueColorMode, BigValueGraphMode, BigValueTextMode } from '@grafana/schema';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, ThemeContext } from '@grafana/ui';
import { TimeSeries } from 'grafana-timeseries';
import React, { useLayoutEffect } from 'react';
import { createRoot } from 'react-dom/client';

type Labels = Record<string, string>;
type Series = { metric: Labels; values: Array<[number, string]> };
type Answer = { refId: string; legend: string; instant: boolean; series: Series[] };
type Stretch = { from: number; to: number; color: string; panels: number[] | null };
type Picture = {
  board: any;
  from: number;
  to: number;
  answers: Record<string, Answer[]>;
  stretches: Stretch[];
  variables: Array<{ label: string; value: string }>;
};

const GRID = { column: 24, row: 30, gap: 8, width: 1440, side: 16 };
const theme = createTheme({ colors: { mode: 'dark' } });
const picture: Picture = (window as any).PICTURE;

const nameOf = (legend: string, labels: Labels) => legend.replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '');
const numberOf = (text: string) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

function matches(change: any, name: string, refId: string): boolean {
  const { id, options } = change.matcher;
  if (id === 'byFrameRefID') {
    return options === refId;
  }
  if (id === 'byName') {
    return options === name;
  }
  return new RegExp(options.replace(/^\/(.*)\/$/, '$1')).test(name);
}

// The settings of one series: the panel's defaults, and whatever override fits it.
function configOf(panel: any, name: string, refId: string): any {
  const config = structuredClone(panel.fieldConfig.defaults);
  config.custom = config.custom ?? {};
  for (const change of panel.fieldConfig.overrides.filter((item: any) => matches(item, name, refId))) {
    for (const { id, value } of change.properties) {
      if (id.startsWith('custom.')) {
        config.custom[id.slice('custom.'.length)] = value;
      } else {
        config[id] = value;
      }
    }
  }
  config.displayName = name;
  return config;
}

function withDisplay(field: Field): Field {
  field.display = getDisplayProcessor({ field, theme });
  return field;
}

function framesOf(panel: any, answers: Answer[]): DataFrame[] {
  return answers.flatMap((answer) =>
    answer.series.map((series) => {
      const name = nameOf(answer.legend, series.metric);
      const values = series.values.map(([, value]) => numberOf(value));
      return {
        refId: answer.refId,
        length: values.length,
        fields: [
          withDisplay({
            name: 'Time',
            type: FieldType.time,
            config: { interval: 1000 },
            values: series.values.map(([time]) => time * 1000),
          }),
          withDisplay({ name, type: FieldType.number, config: configOf(panel, name, answer.refId), values }),
        ],
      };
    })
  );
}

const lastOf = (series: Series) => numberOf(series.values[series.values.length - 1][1]);

function Empty({ panel }: { panel: any }) {
  const style = { color: theme.colors.text.secondary, padding: 12, fontSize: 13, textAlign: 'center' as const };
  return (
    <div style={{ display: 'flex', height: '100%', alignItems: 'center', justifyContent: 'center' }}>
      <div style={style}>{panel.fieldConfig.defaults.noValue}</div>
    </div>
  );
}

function Stat({ panel, answers, width, height }: any) {
  const frames = framesOf(panel, answers);
  if (!frames.length) {
    const field = withDisplay({ name: '', type: FieldType.number, config: configOf(panel, '', 'A'), values: [] });
    return <BigValue {...look(panel)} value={{ ...field.display!(null), title: '' }} theme={theme} width={width} height={height} />;
  }
  const each = Math.floor(width / frames.length) - 4;
  return (
    <div style={{ display: 'flex', gap: 4 }}>
      {frames.map((frame) => {
        const field = frame.fields[1];
        const value: DisplayValue = { ...field.display!(field.values[field.values.length - 1]), title: getFieldDisplayName(field) };
        const sparkline = panel.options.graphMode === 'area' && field.values.length > 1 ? { y: field, x: frame.fields[0] } : undefined;
        return (
          <BigValue key={value.title} {...look(panel)} value={value} sparkline={sparkline} theme={theme} width={each} height={height} />
        );
      })}
    </div>
  );
}

const look = (panel: any) => ({
  colorMode: panel.options.colorMode as BigValueColorMode,
  graphMode: panel.options.graphMode as BigValueGraphMode,
  textMode: panel.options.textMode as BigValueTextMode,
  wideLayout: panel.options.wideLayout,
});

function Bars({ panel, answers, width, height }: any) {
  const rows = answers.flatMap((answer: Answer) =>
    answer.series.map((series) => {
      const name = nameOf(answer.legend, series.metric);
      const field = withDisplay({ name, type: FieldType.number, config: configOf(panel, name, answer.refId), values: [lastOf(series)] });
      return { field, value: { ...field.display!(lastOf(series)), title: name } };
    })
  );
  if (!rows.length) {
    return <Empty panel={panel} />;
  }
  const most = Math.max(...rows.map((row: any) => row.value.numeric));
  return (
    <div>
      {rows.map(({ field, value }: any) => (
        <BarGauge
          key={value.title}
          value={value}
          field={{ ...field.config, min: 0, max: most || 1 }}
          display={field.display}
          theme={theme}
          orientation={'horizontal' as any}
          displayMode={BarGaugeDisplayMode.Basic}
          width={width}
          height={Math.min(40, Math.max(16, height / rows.length - 6))}
          itemSpacing={6}
          showUnfilled
        />
      ))}
    </div>
  );
}

function Lines({ panel, answers, width, height }: any) {
  const frames = framesOf(panel, answers);
  if (!frames.length) {
    return <Empty panel={panel} />;
  }
  const range = { from: dateTime(picture.from * 1000), to: dateTime(picture.to * 1000) };
  const legend = { ...panel.options.legend, showLegend: true };
  return (
    <TimeSeries
      frames={frames}
      structureRev={1}
      width={width}
      height={height}
      timeRange={{ ...range, raw: range }}
      timeZone="utc"
      legend={legend}
      options={panel.options}
      replaceVariables={(text: string) => text}
    >
      {(builder: any) => {
        builder.addHook('drawClear', (plot: any) => {
          for (const stretch of picture.stretches.filter((item) => !item.panels || item.panels.includes(panel.id))) {
            const left = plot.valToPos(Math.max(stretch.from, picture.from) * 1000, 'x', true);
            const right = plot.valToPos(Math.min(stretch.to, picture.to) * 1000, 'x', true);
            plot.ctx.fillStyle = theme.visualization.getColorByName(stretch.color) + '22';
            plot.ctx.fillRect(left, plot.bbox.top, Math.max(2, right - left), plot.bbox.height);
          }
        });
        return null;
      }}
    </TimeSeries>
  );
}

// A table as Grafana's: instant queries joined on their labels, columns in the order of their new names.
function Rows({ panel, answers, height }: any) {
  const [, organize] = panel.transformations;
  const { renameByName, excludeByName } = organize.options;
  const several = panel.targets.length > 1;
  const rows = new Map<string, Record<string, any>>();
  for (const answer of answers as Answer[]) {
    for (const series of answer.series) {
      const { __name__, ...labels } = series.metric;
      const key = JSON.stringify(labels);
      rows.set(key, { ...labels, ...rows.get(key), [several ? `Value #${answer.refId}` : 'Value']: lastOf(series) });
    }
  }
  if (!rows.size) {
    return <Empty panel={panel} />;
  }
  const columns = Object.keys(renameByName).filter((name) => !excludeByName[name]);
  const sort = panel.options.sortBy[0];
  const by = columns.find((name) => renameByName[name] === sort.displayName)!;
  const compare = (a: any, b: any) => (a[by] < b[by] ? 1 : a[by] > b[by] ? -1 : 0);
  const sorted = [...rows.values()].sort(compare).slice(0, Math.floor(height / 30) - 1);
  const cell = { padding: '4px 8px', borderBottom: `1px solid ${theme.colors.border.weak}`, whiteSpace: 'nowrap' as const };
  return (
    <table style={{ width: '100%', fontSize: 13, borderCollapse: 'collapse' }}>
      <thead>
        <tr>
          {columns.map((name) => (
            <th key={name} style={{ ...cell, textAlign: 'left', color: theme.colors.primary.text }}>
              {renameByName[name]}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {sorted.map((row, place) => (
          <tr key={place}>
            {columns.map((name) => (
              <Cell key={name} panel={panel} name={renameByName[name]} value={row[name]} style={cell} />
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Cell({ panel, name, value, style }: any) {
  const config = configOf(panel, name, 'A');
  const link = config.links ? { color: theme.colors.text.link } : {};
  if (typeof value !== 'number') {
    return <td style={{ ...style, ...link }}>{value ?? '–'}</td>;
  }
  const shown = withDisplay({ name, type: FieldType.number, config, values: [value] }).display!(value);
  const kind = config.custom.cellOptions?.type;
  if (kind === 'gauge') {
    const share = Math.max(0, Math.min(1, (value - (config.min ?? 0)) / ((config.max ?? 1) - (config.min ?? 0))));
    return (
      <td style={{ ...style, width: '30%' }}>
        <div style={{ display: 'flex', gap: 8, alignItems: 'center' }}>
          <div style={{ flex: 1, height: 14 }}>
            <div style={{ width: `${share * 100}%`, height: '100%', background: shown.color }} />
          </div>
          {formattedValueToString(shown)}
        </div>
      </td>
    );
  }
  return <td style={{ ...style, ...(kind === 'color-text' ? { color: shown.color } : {}) }}>{formattedValueToString(shown)}</td>;
}

function Words({ panel }: any) {
  const html = panel.options.content
    .split('\n\n')
    .map((part: string) => part.replace(/`([^`]+)`/g, '<code>$1</code>').replace(/\*\*([^*]+)\*\*/g, '<b>$1</b>').replace(/\*([^*]+)\*/g, '<i>$1</i>'));
  return (
    <div style={{ fontSize: 14, lineHeight: 1.5 }}>
      {html.map((part: string, place: number) => (
        <p key={place} dangerouslySetInnerHTML={{ __html: part }} />
      ))}
    </div>
  );
}

const KINDS: Record<string, any> = { stat: Stat, bargauge: Bars, timeseries: Lines, table: Rows, text: Words };

function Panel({ panel }: any) {
  const { x, y, w, h } = panel.gridPos;
  const column = (GRID.width - 2 * GRID.side + GRID.gap) / GRID.column;
  const place = {
    position: 'absolute' as const,
    left: GRID.side + x * column,
    top: 96 + y * (GRID.row + GRID.gap),
    width: w * column - GRID.gap,
    height: h * (GRID.row + GRID.gap) - GRID.gap,
  };
  if (panel.type === 'row') {
    return <div style={{ ...place, fontWeight: 500, paddingTop: 6 }}>⌄ {panel.title}</div>;
  }
  const Kind = KINDS[panel.type];
  return (
    <div style={place}>
      <PanelChrome title={panel.title} description={panel.description} width={place.width} height={place.height}>
        {(width: number, height: number) => (
          <div style={{ width, height, overflow: 'hidden' }}>
            <Kind panel={panel} answers={picture.answers[panel.id] ?? []} width={width} height={height} />
          </div>
        )}
      </PanelChrome>
    </div>
  );
}

function Dashboard() {
  useLayoutEffect(() => {
    document.title = 'drawn';
  }, []);
  const chip = { border: `1px solid ${theme.colors.border.medium}`, borderRadius: 2, padding: '4px 8px', marginRight: 8 };
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative', background: theme.colors.background.canvas, color: theme.colors.text.primary, minHeight: '100vh' }}>
        <div style={{ padding: `12px ${GRID.side}px 0`, fontSize: 20, fontWeight: 500 }}>{picture.board.title}</div>
        <div style={{ padding: `10px ${GRID.side}px`, fontSize: 13, display: 'flex' }}>
          {picture.variables.map(({ label, value }) => (
            <span key={label} style={chip}>
              <span style={{ color: theme.colors.text.secondary }}>{label}</span> {value}
            </span>
          ))}
        </div>
        {picture.board.panels.map((panel: any) => (
          <Panel key={panel.id} panel={panel} />
        ))}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')!).render(<Dashboard />);
