import { expect, test } from 'vitest'
import { z } from 'zod'
import { configure, describeSettings, listOf, loadConfig, mapOf, printConfig, section } from './config.ts'
import { HoldfastError } from './errors.ts'
import { bytes, durationMs, oneOf, textOf, whole } from './units.ts'

const name = { expected: 'a name of a-z', pattern: /^[a-z]+$/, lengthMax: 9 }

const schema = section({
  folder: textOf({ expected: 'a path', pattern: /^\//, lengthMax: 99 }).prefault('/var').describe('Where.'),
  url: textOf({ expected: 'a URL', pattern: /^wss:/, lengthMax: 99 }).optional().describe('Whither.'),
  lanes: mapOf(name, z.strictObject({
    bytesMax: bytes({ max: 2 ** 40 }).prefault('512MiB').describe('How much.'),
    ageMax: durationMs({ max: 86_400_000 * 30 }).optional().describe('How long.'),
    overflow: oneOf(['reject', 'drop-oldest']).prefault('reject').describe('What then.'),
    weight: whole({ min: 1, max: 8 }).prefault(1).describe('How often.')
  }), { telemetry: {}, alarms: { bytesMax: '64MiB', weight: 8 } }).describe('Lanes.'),
  topics: listOf(textOf({ expected: 'a topic', pattern: /^[^#]+$/, lengthMax: 9 }).describe('One topic.'), { lengthMax: 3 }, ['a', 'b'])
    .describe('Topics.')
})

const file = (text: string) => ({ path: '/etc/holdfast/edgecore.yaml', text })

async function problemsOf(loading: Promise<unknown>): Promise<string[]> {
  const error: unknown = await loading.then(() => undefined, (reason: unknown) => reason)
  expect(error).toBeInstanceOf(HoldfastError)
  expect((error as HoldfastError).code).toBe('CONFIG_INVALID')
  return (error as HoldfastError).message.split('\n')
}

test('without sources every setting has its default', async () => {
  expect(await loadConfig(schema, {})).toEqual({
    folder: '/var',
    lanes: {
      telemetry: { bytesMax: 2 ** 29, overflow: 'reject', weight: 1 },
      alarms: { bytesMax: 2 ** 26, overflow: 'reject', weight: 8 }
    },
    topics: ['a', 'b']
  })
})

test('the file is merged into the defaults, a list replaces, and the sets come last', async () => {
  const config = await loadConfig(schema, {
    file: file('lanes:\n  telemetry: { bytesMax: 1GiB, ageMax: 7d }\n  bulk: { weight: 2 }\n  alarms: null\ntopics: [x]\n'),
    sets: ['lanes.bulk.weight=3', 'topics.0=y', 'topics.1=z', 'folder=/a=b', 'url=wss://h:1']
  })
  expect(config).toEqual({
    folder: '/a=b',
    url: 'wss://h:1',
    lanes: {
      telemetry: { bytesMax: 2 ** 30, ageMax: 7 * 86_400_000, overflow: 'reject', weight: 1 },
      bulk: { bytesMax: 2 ** 29, overflow: 'reject', weight: 3 }
    },
    topics: ['y', 'z']
  })
})

test('all problems are reported together, with place, expectation and value', async () => {
  expect(await problemsOf(loadConfig(schema, {
    file: file([
      'lanes:', '  telemetry: { bytesMax: lots, ageMax: 7 }', '  alarms: { bytesMx: 1MiB, overflow: drop }',
      '  Bulk: {}', 'topics: [a, b, c, d]', 'folder: /x', 'lane: {}'
    ].join('\n')),
    sets: ['lanes.alarms.weight=9', 'topics.7=x', 'nonsense', 'folder.deeper=1']
  }))).toEqual([
    '--set topics.7: expected a position from 0 to 4, got "7"',
    '--set nonsense: expected path=value, such as mqtt.port=1883',
    '--set folder.deeper: "deeper" is below a single value',
    'edgecore.yaml: lanes.telemetry.bytesMax: expected a size such as 512MiB, from 0 to 1024GiB, got "lots"',
    'edgecore.yaml: lanes.telemetry.ageMax: expected a duration such as 10s, from 0s to 30d, got 7',
    'edgecore.yaml: lanes.alarms.overflow: expected one of reject, drop-oldest, got "drop"',
    '--set lanes.alarms.weight: expected a whole number from 1 to 8, got 9',
    'edgecore.yaml: lanes.alarms.bytesMx: unknown key "bytesMx"; did you mean "bytesMax"?',
    'edgecore.yaml: lanes.Bulk: expected a name of a-z as the name, got "Bulk"',
    'edgecore.yaml: topics: expected a list of at most 3 entries, got ["a","b","c","d"]',
    'edgecore.yaml: lane: unknown key "lane"; did you mean "lanes"?'
  ])
})

test('a file that is not YAML, or not settings, is a problem with its place', async () => {
  expect(await problemsOf(loadConfig(schema, { file: file('folder: [\n') }))).toEqual([
    expect.stringMatching(/^edgecore\.yaml:\d+:\d+: /)
  ])
  expect(await problemsOf(loadConfig(schema, { file: file('- a\n') }))).toEqual([
    'edgecore.yaml: expected settings, each as "name: value", got ["a"]'
  ])
})

test('an empty file, empty sections and null settings mean the defaults', async () => {
  const defaults = await loadConfig(schema, {})
  expect(await loadConfig(schema, { file: file('') })).toEqual(defaults)
  expect(await loadConfig(schema, { file: file('lanes:\nfolder:\ntopics:\n'), sets: ['url='] })).toEqual(defaults)
})

test('names of the object prototype are keys like any other', async () => {
  for (const key of ['__proto__', 'constructor', 'toString']) {
    expect(await problemsOf(loadConfig(schema, { sets: [`${key}.x=1`] }))).toHaveLength(1)
    expect(await problemsOf(loadConfig(schema, { file: file(`${key}: { x: 1 }`) }))).toHaveLength(1)
  }
  expect(({} as Record<string, unknown>)['x']).toBeUndefined()
})

test('what is printed loads as the same configuration', async () => {
  const config = await loadConfig(schema, { sets: ['lanes.telemetry.ageMax=90s', 'lanes.alarms=null', 'topics=[]'] })
  const printed = await printConfig(schema, config)
  expect(printed).toContain('ageMax: 90s')
  expect(await loadConfig(schema, { file: file(printed) })).toEqual(config)
})

test('a configuration is frozen in depth', async () => {
  const config = await loadConfig(schema, {})
  expect(Object.isFrozen(config.lanes['telemetry'])).toBe(true)
  expect(Object.isFrozen(config.topics)).toBe(true)
})

test('every setting is described with path, type, default and bounds', () => {
  expect(describeSettings(schema).map(line => [line.path, line.type, line.default, line.bounds, line.description])).toEqual([
    ['folder', 'text', '/var', 'at most 99 characters', 'Where.'],
    ['url', 'text', 'none', 'at most 99 characters', 'Whither.'],
    ['lanes', 'map', 'telemetry, alarms', 'each name a name of a-z', 'Lanes.'],
    ['lanes.<name>.bytesMax', 'size', '512MiB', '0 to 1024GiB', 'How much.'],
    ['lanes.<name>.ageMax', 'duration', 'none', '0s to 30d', 'How long.'],
    ['lanes.<name>.overflow', 'word', 'reject', 'reject, drop-oldest', 'What then.'],
    ['lanes.<name>.weight', 'whole number', '1', '1 to 8', 'How often.'],
    ['topics', 'list', 'a, b', 'at most 3 entries', 'Topics.'],
    ['topics.<n>', 'text', 'required', 'at most 9 characters', 'One topic.']
  ])
})

test('the command line prints help, version and configuration, and refuses what it does not know', async () => {
  const spec = { name: 'edgecore', summary: 'The daemon.', version: '1.2.3', schema }
  const printedBy = async (...args: string[]): Promise<string> => {
    const printed: string[] = []
    expect(await configure(spec, args, text => printed.push(text))).toBeUndefined()
    return printed.join('')
  }
  expect(await printedBy('--version')).toBe('edgecore 1.2.3\n')
  expect(await printedBy('--help')).toContain('lanes.<name>.bytesMax\n      How much.\n      size; 0 to 1024GiB; default 512MiB\n')
  expect(await printedBy('--print-config', '--set', 'folder=/q')).toContain('folder: /q\n')
  expect(await configure(spec, ['--set=folder=/z'], () => {})).toMatchObject({ folder: '/z' })
  for (const [args, message] of [
    [['--confg', 'x'], 'edgecore: unknown option --confg, did you mean --config?; see edgecore --help'],
    [['-z'], 'edgecore: unknown option -z; see edgecore --help'],
    [['--config', '--help'], 'edgecore: --config needs a value: --config FILE; see edgecore --help'],
    [['--set='], 'edgecore: --set needs a value: --set path=value; see edgecore --help'],
    [['--version=1'], 'edgecore: --version takes no value, got "1"; see edgecore --help'],
    [['run'], 'edgecore: takes options only, got "run"; see edgecore --help']
  ] as const) await expect(configure(spec, args, () => {})).rejects.toMatchObject({ code: 'USAGE', message })
  await expect(configure(spec, ['--config', '/nowhere/x.yaml'], () => {})).rejects.toMatchObject({ code: 'CONFIG_UNREADABLE' })
})

test('a file that is not one YAML document is said to be so, in no library\'s words', async () => {
  expect(await problemsOf(loadConfig(schema, { file: file('---\nfolder: /a\n---\nfolder: /b\n') })))
    .toEqual(['edgecore.yaml:3:1: expected one document, and here a second one begins'])
  expect((await problemsOf(loadConfig(schema, { file: file('folder: {a\n') })))[0]).toMatch(/^edgecore.yaml:2:1: not YAML: /)
})
