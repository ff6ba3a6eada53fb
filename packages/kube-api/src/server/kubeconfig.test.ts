import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { writeKubeconfig } from './kubeconfig.ts'

test.each([0o600, 0o640] as const)('a kubeconfig is written whole, for those who may read it (%o)', async mode => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-kubeconfig-'))
  onTestFinished(async () => { await rm(folder, { recursive: true }) })
  const path = join(folder, 'config')
  for (const token of ['first', 'second']) {
    await writeKubeconfig(path, { name: 'here', server: 'https://127.0.0.1:6443', caPem: 'PEM', token }, mode)
  }
  expect((await stat(path)).mode & 0o777).toBe(mode)
  expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({
    'kind': 'Config',
    'clusters': [{ name: 'here', cluster: { server: 'https://127.0.0.1:6443', 'certificate-authority-data': 'UEVN' } }],
    'users': [{ user: { token: 'second' } }],
    'current-context': 'here'
  })
})
