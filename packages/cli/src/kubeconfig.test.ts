import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SystemClock } from '@holdfast/runtime'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { CommandHost } from './command.ts'
import { parseKubeconfig, readKubeAccess } from './kubeconfig.ts'

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-kubeconfig-'))
  onTestFinished(() => rm(path, { recursive: true, force: true }))
  return path
}

const hostIn = (path: string, environment: CommandHost['environment'] = {}): CommandHost => ({
  environment, folder: path, nodePath: '', shutdown: new AbortController().signal, clock: new SystemClock(),
  ageMs: () => 0, onExit: () => {}, write: async () => {}, say: () => {}
})

const config = (server: string, user = '{token: secret}', cluster = ''): string => `
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: other, context: {cluster: none, user: none}}, {name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "${server}"${cluster}}}]
users: [{name: u, user: ${user}}]
`

describe('the kubeconfig', () => {
  it('is the option, else the environment, else that of cloudcore on this machine, else one\'s own', async () => {
    const path = await folder()
    await mkdir(join(path, '.holdfast', 'cloud'), { recursive: true })
    await mkdir(join(path, 'home', '.kube'), { recursive: true })
    await writeFile(join(path, 'a'), config('https://a/'))
    await writeFile(join(path, 'b'), config('https://b'))
    await writeFile(join(path, 'home', '.kube', 'config'), config('https://own'))
    const environment = { KUBECONFIG: `${join(path, 'absent')}:${join(path, 'b')}`, HOME: join(path, 'home') }
    expect(await readKubeAccess('a', hostIn(path, environment))).toMatchObject({ server: 'https://a', token: 'secret', source: join(path, 'a') })
    expect(await readKubeAccess(undefined, hostIn(path, environment))).toMatchObject({ server: 'https://b' })
    await writeFile(join(path, '.holdfast', 'cloud', 'kubeconfig'), config('https://up'))
    expect(await readKubeAccess(undefined, hostIn(path, { HOME: join(path, 'home') }))).toMatchObject({ server: 'https://up' })
  })

  it('is said to be missing, with where it was looked for', async () => {
    const path = await folder()
    await expect(readKubeAccess('mine', hostIn(path))).rejects.toMatchObject({
      code: 'KUBECONFIG_MISSING', message: expect.stringMatching(/there is no mine; give one with --kubeconfig.*--edge/) as string
    })
  })

  it('may hold certificates, or name files beside it', async () => {
    const path = await folder()
    await writeFile(join(path, 'ca.pem'), 'CA')
    await writeFile(join(path, 'token'), 'secret\n')
    const base64 = (text: string): string => Buffer.from(text).toString('base64')
    const user = `{client-certificate-data: ${base64('CERT')}, client-key-data: ${base64('KEY')}, tokenFile: token}`
    const text = config('https://a:6443', user, ', certificate-authority: ca.pem, tls-server-name: cloud')
    expect(await parseKubeconfig(text, join(path, 'config'))).toEqual({
      source: join(path, 'config'), server: 'https://a:6443', token: 'secret', tls: { ca: 'CA', cert: 'CERT', key: 'KEY', servername: 'cloud' }
    })
    expect((await parseKubeconfig(config('https://a', '{}', ', insecure-skip-tls-verify: true'), 'x')).tls).toEqual({ rejectUnauthorized: false })
  })

  it.each<[string, string, RegExp]>([
    ['is no YAML', 'a: [', /x:1:.* not YAML/], ['has no context', '{}', /no current-context/],
    ['lacks what its context names', config('https://a').replace('name: c,', 'name: d,'), /it has no cluster "c", which its current context uses/],
    ['has no URL', config('a:6443'), /the server of its cluster is "a:6443"/],
    ['has a plugin', config('https://a', '{exec: {command: aws}}'), /credentials from a plugin \(exec\)/],
    ['names a file that is not there', config('https://a', '{tokenFile: /nowhere/token}'), /tokenFile "\/nowhere\/token" cannot be read/]
  ])('that %s is said to', async (_, text, message) => {
    await expect(parseKubeconfig(text, 'x')).rejects.toMatchObject({ code: 'KUBECONFIG_INVALID', message: expect.stringMatching(message) as string })
  })
})
