import { execFileSync } from 'node:child_process'
import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

const root = dirname(import.meta.dirname)

const read = (path: string): string => readFileSync(join(root, path), 'utf8')

/** Files of the project, without what is generated or fetched. */
function files(...patterns: string[]): string[] {
  const skipped = /(^|\/)node_modules\/|^protos\/gen\/|^bench\/out\//
  return patterns.flatMap(pattern => globSync(pattern, { cwd: root }))
    .filter(path => !skipped.test(path) && statSync(join(root, path)).isFile())
    .toSorted()
}

const sources = files('packages/*/src/**/*.ts', 'packages/*/bin/*.js', 'protos/src/**/*.ts')
const code = [...sources, ...files('test/**/*.ts', 'bench/**/*.ts', 'demo/**/*.ts', 'docs/*.ts', '*.ts')]
const texts = [...code, ...files('*.md', 'docs/**/*.md', 'deploy/**/*', '.ci/*', '*.json', 'packages/*/package.json', 'protos/**/*.proto')]
  .filter(path => path !== 'package-lock.json')

/** `file:line` of every line that matches, but for this file. */
function lines(paths: readonly string[], pattern: RegExp): string[] {
  return paths.filter(path => path !== 'test/tidy.test.ts').flatMap(path => read(path).split('\n').flatMap((line, i) =>
    pattern.test(line) ? [`${path}:${i + 1}: ${line.trim().slice(0, 120)}`] : []))
}

/** What each package may depend on; the linter holds the same for every import (.oxlintrc.json). */
const layers: Readonly<Record<string, readonly string[]>> = {
  protos: [],
  runtime: [],
  store: ['runtime', 'protos'],
  sync: ['protos'],
  'device-twin': [],
  'kube-api': ['runtime', 'store'],
  edgecore: ['protos', 'runtime', 'store', 'sync', 'device-twin', 'kube-api'],
  cloudcore: ['protos', 'runtime', 'store', 'sync', 'device-twin', 'kube-api'],
  cli: ['protos', 'runtime']
}

const importsOf = (path: string): string[] =>
  [...read(path).matchAll(/^(?:import|export)\b[^'"=]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm)]
    .map(match => (match[1] ?? match[2] ?? match[3])!)

test('there are sources to look at', () => {
  expect(sources.length).toBeGreaterThan(20)
  expect(code.length).toBeLessThan(texts.length)
})

test('packages import and declare only what their layer may', () => {
  const wrong: string[] = []
  for (const [name, allowed] of Object.entries(layers)) {
    const folder = name === 'protos' ? 'protos' : `packages/${name}`
    const manifest = JSON.parse(read(`${folder}/package.json`)) as { dependencies?: Record<string, string> }
    const used = files(`${folder}/src/**/*.ts`).filter(path => !path.endsWith('.test.ts')).flatMap(path => importsOf(path).map(specifier => ({ path, specifier })))
    for (const { path, specifier } of [
      ...used, ...Object.keys(manifest.dependencies ?? {}).map(specifier => ({ path: `${folder}/package.json`, specifier }))
    ]) {
      const other = /^@holdfast\/([^/]+)/.exec(specifier)?.[1]
      if (other !== undefined && other !== name && !allowed.includes(other)) wrong.push(`${path} imports ${specifier}`)
      if (/^(\.\.\/)+(packages\/)?(protos|runtime|store|sync|device-twin|kube-api|edgecore|cloudcore|cli)\//.test(specifier)) {
        wrong.push(`${path} reaches into ${specifier}`)
      }
    }
  }
  expect(wrong).toEqual([])
})

test('every package is in the table of layers', () => {
  const folders = globSync('packages/*/package.json', { cwd: root }).map(path => path.split('/')[1]!)
  expect([...folders, 'protos'].toSorted()).toEqual(Object.keys(layers).toSorted())
})

test('packages declare what they import', () => {
  const wrong: string[] = []
  for (const name of Object.keys(layers)) {
    const folder = name === 'protos' ? 'protos' : `packages/${name}`
    const manifest = JSON.parse(read(`${folder}/package.json`)) as Record<string, Record<string, string> | undefined>
    const declared = new Set(Object.keys({ ...manifest['dependencies'], ...manifest['devDependencies'] }))
    for (const path of files(`${folder}/src/**/*.ts`).filter(file => !file.endsWith('.test.ts') && !file.includes('/testing/'))) {
      for (const specifier of importsOf(path)) {
        const packageName = /^(?:@[^/]+\/)?[^/.][^/]*/.exec(specifier)?.[0]
        if (packageName === undefined || specifier.startsWith('node:') || specifier.startsWith('.')) continue
        if (packageName !== `@holdfast/${name}` && !declared.has(packageName)) wrong.push(`${path} imports ${packageName}`)
      }
    }
  }
  expect(wrong).toEqual([])
})

test('ambient time, randomness and output stay in runtime and main.ts', () => {
  const watched = sources.filter(path => path.endsWith('.ts') && !path.startsWith('packages/runtime/')
    && !path.endsWith('.test.ts') && !path.endsWith('/main.ts') && !path.includes('/testing/'))
  expect(lines(watched, /\bDate\.now\(|\bnew Date\(|\bset(Timeout|Interval|Immediate)\(|\bMath\.random\(|\bprocess\.env\b|\bconsole\.\w+\(/))
    .toEqual([])
})

test('imports carry their extension', () => {
  expect(lines(code, /from '\.{1,2}\/[^']*(?<!\.(ts|js|json))'/)).toEqual([])
})

test('nothing is switched off, left out or put off', () => {
  expect(lines(code, /@ts-(ignore|nocheck|expect-error)|(oxlint|eslint)-disable|\bas any\b|\bas unknown as any\b/)).toEqual([])
  expect(lines(code, /\b(it|test|describe)\.(skip|only|todo)\b/)).toEqual([])
  expect(lines(code, /\b(TODO|FIXME|XXX|HACK)\b/)).toEqual([])
})

test('tests wait for conditions, not for time', () => {
  const tests = code.filter(path => path.endsWith('.test.ts'))
  expect(lines(tests, /\b(sleep|delay)\(|await (wait|setTimeout)\(|setTimeout\(resolve|from 'node:timers\/promises'/)).toEqual([])
})

test('no path, address or name of the machine that it was written on', () => {
  expect(lines(texts, /(^|[\s'"`(=:])\/(work|home|root|Users|mnt)\//)).toEqual([])
  expect(lines(texts, /https?:\/\/[^/\s'"]*(registry|npmmirror|verdaccio|artifactory|nexus)/i)).toEqual([])
  const locked = existsSync(join(root, 'package-lock.json')) ? read('package-lock.json') : ''
  expect(/"resolved": "https?:/.test(locked)).toBe(false)
})

test('lines fit the page', () => {
  const [tests, products] = [code.filter(path => path.includes('test')), code.filter(path => !path.includes('test'))]
  expect(lines(products, /^.{141,}$/).filter(line => !line.includes('http'))).toEqual([])
  expect(lines(tests, /^.{251,}$/)).toEqual([])
})

/** Written like codes, and not codes of ours: of the system and its libraries, environment variables, examples. */
const otherNames = /^(ERR_|LEVEL_|HOLDFAST_|MULTIPLE_DOCS$|KEY_NAME$|MY_NAME$)/
/** Of codecs, for programs that read with them; no program of ours shows them. */
const codecCodes = ['BATCH_STREAM_MALFORMED']

test('every code that can be seen is in a table', () => {
  const tables = files('packages/*/src/**/error-codes.ts', 'protos/src/**/error-codes.ts').map(read).join('\n')
  const known = new Set([...tables.matchAll(/^ {2}([A-Z][A-Z0-9_]*): \{/gm)].map(match => match[1]!))
  const used = sources.filter(path => !/\.test\.ts$|\/testing\/|error-codes\.ts$/.test(path)).flatMap(path => [
    ...read(path).matchAll(/'([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)'/g), ...read(path).matchAll(/new HoldfastError\(\s*'([A-Z0-9_]+)'/g)
  ].map(match => `${path}: ${match[1]!}`))
  expect(known.size).toBeGreaterThan(50)
  expect(used.length).toBeGreaterThan(100)
  expect(used.filter(each => {
    const name = each.split(': ')[1]!
    return !known.has(name) && !otherNames.test(name) && !codecCodes.includes(name)
  })).toEqual([])
})

test('the pages made from the code say what the code says', () => {
  const page = (): string => execFileSync(process.execPath, [join(root, 'docs/generate.ts'), '--check'], { encoding: 'utf8' })
  expect(page).not.toThrow()
})

test('every decision is listed, and every listed one is there', () => {
  const records = files('docs/adr/*.md').map(path => path.slice('docs/adr/'.length))
  const index = records.includes('README.md') ? read('docs/adr/README.md') : ''
  const numbered = records.filter(name => name !== 'README.md')
  expect(numbered.filter(name => !/^\d{4}-[a-z0-9-]+\.md$/.test(name))).toEqual([])
  expect(numbered.filter(name => !index.includes(`(${name})`))).toEqual([])
  const listed = [...index.matchAll(/\((\d{4}-[a-z0-9-]+\.md)\)/g)].map(match => match[1]!)
  expect(listed.filter(name => !numbered.includes(name))).toEqual([])
  expect(new Set(numbered.map(name => name.slice(0, 4))).size).toBe(numbered.length)
})

test('links between pages lead somewhere', () => {
  const broken = files('*.md', 'docs/**/*.md').flatMap(path => [...read(path).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
    .map(match => match[1]!)
    .filter(target => !/^[a-z]+:/.test(target) && !existsSync(join(root, dirname(path), target)))
    .map(target => `${path} → ${target}`))
  expect(broken).toEqual([])
})

test('a page that names a source file names one that exists', () => {
  const missing = files('*.md', 'docs/**/*.md').flatMap(path =>
    [...read(path).matchAll(/(?:packages\/[a-z-]+\/(?:src|bin)|protos\/src)\/[A-Za-z0-9/_.-]+\.(?:ts|js)\b/g)]
      .filter(match => !existsSync(join(root, match[0])))
      .map(match => `${path} → ${match[0]}`))
  expect(missing).toEqual([])
})
