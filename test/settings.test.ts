import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { describeSettings } from '@holdfast/runtime'
import { cloudcoreSchema } from '../packages/cloudcore/src/config.ts'
import { edgecoreSchema } from '../packages/edgecore/src/config.ts'

const root = join(import.meta.dirname, '..')

test.each([
  ['cloudcore', cloudcoreSchema],
  ['edgecore', edgecoreSchema]
])('%s reads each of its settings', (program, schema) => {
  const sources = globSync(`packages/{${program},runtime}/src/**/*.ts`, { cwd: root })
    .filter(file => !/\.test\.ts$|\/testing\/|\/config\.ts$|\/limits\.ts$/.test(file))
  const read = new Set(sources.flatMap(file => readFileSync(join(root, file), 'utf8').match(/(?<=[.{,]\s*)[a-zA-Z]+/g) ?? []))
  // A type of its own is read where lanes and routes are used, by whatever name the user gave them.
  const names = describeSettings(schema).map(({ path }) => path.split('.').findLast(part => !part.startsWith('<'))!)
  expect(names.filter(name => !read.has(name))).toEqual([])
  expect(names.length).toBeGreaterThan(10)
})
