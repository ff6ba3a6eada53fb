import { describe, expect, it } from 'vitest'
import { defineCommand, helpCommand, helpOverview, outputForm, parseCommandLine } from './command.ts'

const records = defineCommand({
  name: 'records',
  summary: 'read records',
  options: {
    node: { value: 'NODE', required: true, summary: 'Of this node.' },
    limit: { value: 'N', short: 'l', summary: 'At most so many.' },
    follow: { short: 'f', summary: 'Go on.' }
  },
  run: async () => 0
})
const set = defineCommand({
  name: 'twin set',
  summary: 'set',
  operands: { shown: 'DEVICE PROPERTY=VALUE…', min: 2, max: 3 },
  options: { edge: { value: 'URL', optional: true, short: 'e', summary: 'On the node.' }, output: { value: 'FORM', summary: 'How.' } },
  run: async () => 0
})
const bare = (name: string) => defineCommand({ name, summary: 'something', options: {}, run: async () => 0 })
const commands = [records, bare('token create'), bare('get nodes'), set]
const parse = (line: string) => parseCommandLine(line.split(' ').filter(word => word !== ''), commands)

describe('a command line', () => {
  it('gives the command and its values; a flag that is not there is false', () => {
    expect(parse('records --node edge-1 -l 5'))
      .toEqual({ kind: 'run', command: records, values: { node: 'edge-1', limit: '5', follow: false }, operands: [] })
    expect(parse('records --node=-x -f')).toMatchObject({ values: { node: '-x', limit: undefined, follow: true } })
    expect(parse('token create')).toMatchObject({ kind: 'run', command: { name: 'token create' } })
  })

  it('gives the words beside the options, and an option whose value may be left out', () => {
    const values = { edge: undefined, output: undefined }
    expect(parse('twin set a b=-1')).toEqual({ kind: 'run', command: set, values, operands: ['a', 'b=-1'] })
    expect(parse('twin set --edge a b=1')).toMatchObject({ values: { edge: '' }, operands: ['a', 'b=1'] })
    expect(parse('twin set a -e b=1')).toMatchObject({ values: { edge: '' }, operands: ['a', 'b=1'] })
    expect(parse('twin set --edge=http://n:1 a b=1')).toMatchObject({ values: { edge: 'http://n:1' }, operands: ['a', 'b=1'] })
    expect(parse('twin set a b=1 --edge http://n:1')).toMatchObject({ values: { edge: 'http://n:1' }, operands: ['a', 'b=1'] })
    expect(parse('twin set a -- b=1 -c=2')).toMatchObject({ operands: ['a', 'b=1', '-c=2'] })
  })

  it.each<[string, RegExp]>([
    ['twin set a', /^holdfast twin set needs DEVICE PROPERTY=VALUE…; see holdfast twin set --help$/],
    ['twin set a b=1 c=2 d=3', /^holdfast twin set takes DEVICE PROPERTY=VALUE…, and "d=3" is too much;/],
    ['twin set a b=1 --edge=', /--edge needs a value/],
    ['recrods', /^unknown command "recrods": did you mean "records"\?$/],
    ['get node', /^unknown command "get node": did you mean "get nodes"\?$/],
    ['get', /^"get" is half a command: did you mean "get nodes"\?$/],
    ['frobnicate all', /^unknown command "frobnicate all": expected one of records, token create, get nodes, twin set; see /],
    ['-f records', /^expected a command before "-f": one of records/],
    ['records', /^holdfast records needs --node NODE; see holdfast records --help$/],
    ['records --nod x', /^holdfast records: unknown option --nod; did you mean --node\?$/],
    ['records --node x --zzzzzz', /unknown option --zzzzzz; there are --node, --limit, --follow, --help$/],
    ['records --node x -z', /unknown option -z;/],
    ['records --node', /^holdfast records: --node needs a value: --node NODE$/],
    ['records --node --follow', /--node needs a value/],
    ['records --node= x', /--node needs a value/],
    ['records --node x --follow=yes', /--follow takes no value, got "yes"$/],
    ['records --node x more', /takes options only, got "more"/],
    ['records --node x --toString 1', /unknown option --toString/]
  ])('says in one sentence what is wrong with "%s"', (line, message) => {
    const failure = (): unknown => {
      try {
        return parse(line)
      } catch (error) {
        return error
      }
    }
    expect(failure()).toMatchObject({ code: 'USAGE', message: expect.stringMatching(message) as string })
  })

  it.each(['records --help', 'records --node x -h', 'records -f --help'])(
    'asks for help with "%s", whatever else is missing',
    line => { expect(parse(line)).toEqual({ kind: 'help', command: records }) })

  it.each(['', '--help', '-h', 'get --help', 'frobnicate --help'])('asks for the overview with "%s"', line => {
    expect(parse(line)).toEqual({ kind: 'help' })
  })

  it('asks for the version with --version', () => { expect(parse('--version')).toEqual({ kind: 'version' }) })
})

describe('help', () => {
  it('names every command in the overview, and every option at its command', () => {
    expect(helpOverview(commands)).toMatch(/\n {2}records {7}read records\n {2}token create {2}something\n/)
    const text = helpCommand(records)
    expect(text).toContain('usage: holdfast records --node NODE [--limit N] [--follow]\n')
    expect(text).toMatch(/\n {2}--limit N, -l {2}At most so many\.\n {2}--follow, -f {3}Go on\.\n/)
    expect(text).toMatch(/\n {2}--help, -h {5}Print this\.\n$/)
    expect(helpCommand(set)).toContain('usage: holdfast twin set DEVICE PROPERTY=VALUE… [--edge[=URL]] [--output FORM]\n')
  })
})

describe('-o', () => {
  it('is a table unless asked otherwise', () => {
    expect([outputForm(undefined), outputForm('table'), outputForm('json')]).toEqual(['table', 'table', 'json'])
    expect(() => outputForm('jsn')).toThrow('--output: expected table or json, got "jsn"; did you mean json?')
  })
})
