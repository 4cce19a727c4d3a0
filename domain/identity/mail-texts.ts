// The texts of mails to users, in their language. `{name}`, `{tenant}`, `{time}`, `{device}`, `{provider}`, `{changes}`, `{count}` are filled in.
import type { LOCALES } from './user.ts'

export type Locale = (typeof LOCALES)[number]
/** Mails about alerts: they go to users, and to addresses that are nobody's account. */
export type AlertMailKind = 'alert_raised' | 'alert_repeated' | 'alert_escalated' | 'alert_cleared'
export type MailKind =
  | 'invitation'
  | 'password_reset'
  | 'email_verification'
  | 'password_changed'
  | 'email_changed'
  | 'new_device'
  | 'mfa_changed'
  | 'sso_linked'
  | 'sso_unlinked'
  | 'sso_suspended'
  | 'sso_provider_changed'
  | 'impersonation'
  | 'trial_ending'
  | 'trial_ended'
  | AlertMailKind

interface MailText {
  subject: string
  body: string
  /** The words on the link, where there is one. */
  action?: string
}

export const mailTexts: Record<Locale, { greeting: string; ignore: string; warning: string } & Record<MailKind, MailText>> = {
  en: {
    greeting: 'Hello {name},',
    ignore: 'If you did not expect this, you need do nothing.',
    warning: 'If this was not you, change your password now and tell your administrator.',
    alert_raised: { subject: 'Alert at {tenant}: {count}', body: 'Raised at {tenant}:' },
    alert_repeated: { subject: 'Still open at {tenant}: {count}', body: 'Still open at {tenant}, and not acknowledged:' },
    alert_escalated: {
      subject: 'Escalated alert at {tenant}: {count}',
      body: 'Not acknowledged at {tenant} in time, and escalated to you:',
    },
    alert_cleared: { subject: 'Alert over at {tenant}: {count}', body: 'Over at {tenant}:' },
    invitation: {
      subject: 'You are invited to {tenant}',
      body: '{tenant} has made an account for you. Choose a password within seven days to use it.',
      action: 'Accept the invitation',
    },
    password_reset: {
      subject: 'Choose a new password for {tenant}',
      body: 'Somebody asked for a new password for your account at {tenant}. The link works once, for one hour.',
      action: 'Choose a new password',
    },
    email_verification: {
      subject: 'Confirm your address for {tenant}',
      body: 'Confirm that this address is yours, and your account at {tenant} will use it.',
      action: 'Confirm the address',
    },
    password_changed: {
      subject: 'Your password for {tenant} was changed',
      body: 'The password of your account at {tenant} was changed at {time}. All other sessions have ended.',
    },
    email_changed: {
      subject: 'Your address for {tenant} was changed',
      body: 'Your account at {tenant} uses another address since {time}.',
    },
    new_device: { subject: 'New sign-in to {tenant}', body: 'Your account at {tenant} was used from a new device at {time}: {device}' },
    trial_ending: {
      subject: 'Your trial of {tenant} ends soon',
      body: 'The trial of {tenant} ends at {time}. Choose a plan before, and nothing changes for you.',
    },
    trial_ended: {
      subject: 'Your trial of {tenant} has ended',
      body: 'The trial of {tenant} ended at {time}. Everything is there and can be read; choose a plan to go on working.',
    },
    impersonation: {
      subject: 'Support works at {tenant}',
      body: 'Our support works at {tenant} in the place of {person} until {time}. Reason: {reason}. All that is done stands in your audit trail.',
    },
    mfa_changed: {
      subject: 'Your second factor for {tenant} was changed',
      body: 'The second factors of your account at {tenant} were changed at {time}.',
    },
    sso_linked: {
      subject: 'Sign-in through {provider} was linked to your account',
      body: 'Your account at {tenant} can be used through {provider} since {time}.',
    },
    sso_unlinked: {
      subject: 'Sign-in through {provider} was removed from your account',
      body: 'Your account at {tenant} can no longer be used through {provider} since {time}.',
    },
    sso_suspended: {
      subject: 'Sign-in through {provider} is suspended',
      body: 'The settings of {provider} at {tenant} were changed at {time}. Your sign-in through it is suspended until you confirm it: sign in with your password and confirm the link in your account, or ask your administrator.',
    },
    sso_provider_changed: {
      subject: 'Single sign-on of {tenant} was changed',
      body: 'The identity provider {provider} of {tenant} was changed at {time}: {changes}.',
    },
  },
  es: {
    greeting: 'Hola, {name}:',
    ignore: 'Si no lo esperabas, no hace falta que hagas nada.',
    warning: 'Si no has sido tú, cambia ahora tu contraseña y avisa a tu administrador.',
    alert_raised: { subject: 'Alerta en {tenant}: {count}', body: 'Nuevas alertas en {tenant}:' },
    alert_repeated: { subject: 'Sigue abierta en {tenant}: {count}', body: 'Siguen abiertas en {tenant}, sin confirmar:' },
    alert_escalated: { subject: 'Alerta escalada en {tenant}: {count}', body: 'Sin confirmar a tiempo en {tenant}, y escaladas a ti:' },
    alert_cleared: { subject: 'Alerta terminada en {tenant}: {count}', body: 'Terminadas en {tenant}:' },
    invitation: {
      subject: 'Te han invitado a {tenant}',
      body: '{tenant} ha creado una cuenta para ti. Elige una contraseña en siete días para usarla.',
      action: 'Aceptar la invitación',
    },
    password_reset: {
      subject: 'Elige una contraseña nueva para {tenant}',
      body: 'Alguien ha pedido una contraseña nueva para tu cuenta en {tenant}. El enlace sirve una vez, durante una hora.',
      action: 'Elegir una contraseña nueva',
    },
    email_verification: {
      subject: 'Confirma tu dirección para {tenant}',
      body: 'Confirma que esta dirección es tuya y tu cuenta en {tenant} la usará.',
      action: 'Confirmar la dirección',
    },
    password_changed: {
      subject: 'Tu contraseña de {tenant} ha cambiado',
      body: 'La contraseña de tu cuenta en {tenant} se cambió a las {time}. Las demás sesiones se han cerrado.',
    },
    email_changed: { subject: 'Tu dirección en {tenant} ha cambiado', body: 'Tu cuenta en {tenant} usa otra dirección desde las {time}.' },
    new_device: {
      subject: 'Nuevo inicio de sesión en {tenant}',
      body: 'Tu cuenta en {tenant} se usó desde un dispositivo nuevo a las {time}: {device}',
    },
    trial_ending: {
      subject: 'La prueba de {tenant} termina pronto',
      body: 'La prueba de {tenant} termina el {time}. Elija antes un plan y nada cambiará.',
    },
    trial_ended: {
      subject: 'La prueba de {tenant} ha terminado',
      body: 'La prueba de {tenant} terminó el {time}. Todo sigue ahí y se puede leer; elija un plan para seguir trabajando.',
    },
    impersonation: {
      subject: 'El soporte trabaja en {tenant}',
      body: 'Nuestro soporte trabaja en {tenant} en lugar de {person} hasta {time}. Motivo: {reason}. Todo lo que se haga queda en su registro de auditoría.',
    },
    mfa_changed: {
      subject: 'Tu segundo factor en {tenant} ha cambiado',
      body: 'Los segundos factores de tu cuenta en {tenant} se cambiaron a las {time}.',
    },
    sso_linked: {
      subject: 'El acceso con {provider} se ha vinculado a tu cuenta',
      body: 'Tu cuenta en {tenant} se puede usar con {provider} desde las {time}.',
    },
    sso_unlinked: {
      subject: 'El acceso con {provider} se ha quitado de tu cuenta',
      body: 'Tu cuenta en {tenant} ya no se puede usar con {provider} desde las {time}.',
    },
    sso_suspended: {
      subject: 'El acceso con {provider} está suspendido',
      body: 'La configuración de {provider} en {tenant} se cambió a las {time}. Tu acceso queda suspendido hasta que lo confirmes: entra con tu contraseña y confirma el vínculo en tu cuenta, o pídelo a tu administrador.',
    },
    sso_provider_changed: {
      subject: 'El inicio de sesión único de {tenant} ha cambiado',
      body: 'El proveedor de identidad {provider} de {tenant} se cambió a las {time}: {changes}.',
    },
  },
  pt: {
    greeting: 'Olá, {name},',
    ignore: 'Se não esperava esta mensagem, não precisa de fazer nada.',
    warning: 'Se não foi você, mude já a sua senha e avise o seu administrador.',
    alert_raised: { subject: 'Alerta em {tenant}: {count}', body: 'Novos alertas em {tenant}:' },
    alert_repeated: { subject: 'Continua aberto em {tenant}: {count}', body: 'Continuam abertos em {tenant}, sem confirmação:' },
    alert_escalated: { subject: 'Alerta escalado em {tenant}: {count}', body: 'Sem confirmação a tempo em {tenant}, e escalados para si:' },
    alert_cleared: { subject: 'Alerta terminado em {tenant}: {count}', body: 'Terminados em {tenant}:' },
    invitation: {
      subject: 'Convite para {tenant}',
      body: '{tenant} criou uma conta para si. Escolha uma senha dentro de sete dias para a usar.',
      action: 'Aceitar o convite',
    },
    password_reset: {
      subject: 'Escolha uma nova senha para {tenant}',
      body: 'Alguém pediu uma nova senha para a sua conta em {tenant}. A ligação funciona uma vez, durante uma hora.',
      action: 'Escolher uma nova senha',
    },
    email_verification: {
      subject: 'Confirme o seu endereço para {tenant}',
      body: 'Confirme que este endereço é seu e a sua conta em {tenant} passará a usá-lo.',
      action: 'Confirmar o endereço',
    },
    password_changed: {
      subject: 'A sua senha em {tenant} foi alterada',
      body: 'A senha da sua conta em {tenant} foi alterada às {time}. As outras sessões terminaram.',
    },
    email_changed: {
      subject: 'O seu endereço em {tenant} foi alterado',
      body: 'A sua conta em {tenant} usa outro endereço desde as {time}.',
    },
    new_device: { subject: 'Novo acesso a {tenant}', body: 'A sua conta em {tenant} foi usada num novo dispositivo às {time}: {device}' },
    trial_ending: {
      subject: 'O teste de {tenant} termina em breve',
      body: 'O teste de {tenant} termina em {time}. Escolha um plano antes e nada muda.',
    },
    trial_ended: {
      subject: 'O teste de {tenant} terminou',
      body: 'O teste de {tenant} terminou em {time}. Está tudo lá e pode ser lido; escolha um plano para continuar a trabalhar.',
    },
    impersonation: {
      subject: 'O suporte trabalha em {tenant}',
      body: 'O nosso suporte trabalha em {tenant} no lugar de {person} até {time}. Motivo: {reason}. Tudo o que for feito fica na sua trilha de auditoria.',
    },
    mfa_changed: {
      subject: 'O seu segundo fator em {tenant} foi alterado',
      body: 'Os segundos fatores da sua conta em {tenant} foram alterados às {time}.',
    },
    sso_linked: {
      subject: 'O acesso por {provider} foi ligado à sua conta',
      body: 'A sua conta em {tenant} pode ser usada por {provider} desde as {time}.',
    },
    sso_unlinked: {
      subject: 'O acesso por {provider} foi removido da sua conta',
      body: 'A sua conta em {tenant} deixou de poder ser usada por {provider} desde as {time}.',
    },
    sso_suspended: {
      subject: 'O acesso por {provider} está suspenso',
      body: 'As definições de {provider} em {tenant} foram alteradas às {time}. O seu acesso fica suspenso até o confirmar: entre com a sua senha e confirme a ligação na sua conta, ou peça ao seu administrador.',
    },
    sso_provider_changed: {
      subject: 'O início de sessão único de {tenant} foi alterado',
      body: 'O fornecedor de identidade {provider} de {tenant} foi alterado às {time}: {changes}.',
    },
  },
  tr: {
    greeting: 'Merhaba {name},',
    ignore: 'Bunu beklemiyorsanız bir şey yapmanız gerekmez.',
    warning: 'Bunu siz yapmadıysanız parolanızı hemen değiştirin ve yöneticinize haber verin.',
    alert_raised: { subject: '{tenant} uyarısı: {count}', body: '{tenant} içindeki yeni uyarılar:' },
    alert_repeated: { subject: '{tenant} içinde hâlâ açık: {count}', body: '{tenant} içinde hâlâ açık ve onaylanmamış:' },
    alert_escalated: { subject: '{tenant} için iletilen uyarı: {count}', body: '{tenant} içinde zamanında onaylanmadı ve size iletildi:' },
    alert_cleared: { subject: '{tenant} uyarısı sona erdi: {count}', body: '{tenant} içinde sona erenler:' },
    invitation: {
      subject: '{tenant} sizi davet ediyor',
      body: '{tenant} sizin için bir hesap açtı. Kullanmak için yedi gün içinde bir parola seçin.',
      action: 'Daveti kabul et',
    },
    password_reset: {
      subject: '{tenant} için yeni parola seçin',
      body: 'Birisi {tenant} hesabınız için yeni parola istedi. Bağlantı bir kez ve bir saat boyunca çalışır.',
      action: 'Yeni parola seç',
    },
    email_verification: {
      subject: '{tenant} için adresinizi doğrulayın',
      body: 'Bu adresin size ait olduğunu doğrulayın; {tenant} hesabınız onu kullanacak.',
      action: 'Adresi doğrula',
    },
    password_changed: {
      subject: '{tenant} parolanız değişti',
      body: '{tenant} hesabınızın parolası {time} itibarıyla değişti. Diğer oturumlar kapatıldı.',
    },
    email_changed: { subject: '{tenant} adresiniz değişti', body: '{tenant} hesabınız {time} itibarıyla başka bir adres kullanıyor.' },
    new_device: {
      subject: '{tenant} hesabında yeni oturum',
      body: '{tenant} hesabınız {time} itibarıyla yeni bir cihazdan kullanıldı: {device}',
    },
    trial_ending: {
      subject: '{tenant} deneme süreniz bitiyor',
      body: '{tenant} deneme süresi {time} tarihinde bitiyor. Önceden bir plan seçerseniz hiçbir şey değişmez.',
    },
    trial_ended: {
      subject: '{tenant} deneme süreniz bitti',
      body: '{tenant} deneme süresi {time} tarihinde bitti. Her şey duruyor ve okunabilir; çalışmaya devam etmek için bir plan seçin.',
    },
    impersonation: {
      subject: 'Destek ekibi {tenant} içinde çalışıyor',
      body: 'Destek ekibimiz {time} tarihine kadar {tenant} içinde {person} yerine çalışıyor. Neden: {reason}. Yapılan her şey denetim izinizde yer alır.',
    },
    mfa_changed: {
      subject: '{tenant} ikinci doğrulamanız değişti',
      body: '{tenant} hesabınızın ikinci doğrulama yöntemleri {time} itibarıyla değişti.',
    },
    sso_linked: {
      subject: '{provider} ile oturum açma hesabınıza bağlandı',
      body: '{tenant} hesabınız {time} itibarıyla {provider} ile kullanılabilir.',
    },
    sso_unlinked: {
      subject: '{provider} ile oturum açma hesabınızdan kaldırıldı',
      body: '{tenant} hesabınız {time} itibarıyla artık {provider} ile kullanılamaz.',
    },
    sso_suspended: {
      subject: '{provider} ile oturum açma askıya alındı',
      body: '{tenant} içindeki {provider} ayarları {time} itibarıyla değişti. Onaylayana kadar bu yolla giriş askıdadır: parolanızla oturum açıp hesabınızdaki bağlantıyı onaylayın veya yöneticinize başvurun.',
    },
    sso_provider_changed: {
      subject: '{tenant} tek oturum açma ayarları değişti',
      body: '{tenant} kimlik sağlayıcısı {provider} {time} itibarıyla değişti: {changes}.',
    },
  },
  az: {
    greeting: 'Salam, {name}!',
    ignore: 'Bunu gözləmirdinizsə, heç nə etmək lazım deyil.',
    warning: 'Bunu siz etməmisinizsə, parolunuzu indi dəyişin və administratorunuza bildirin.',
    alert_raised: { subject: '{tenant} xəbərdarlığı: {count}', body: '{tenant} daxilində yeni xəbərdarlıqlar:' },
    alert_repeated: { subject: '{tenant} daxilində hələ açıq: {count}', body: '{tenant} daxilində hələ açıq və təsdiqlənməyib:' },
    alert_escalated: {
      subject: '{tenant} üzrə ötürülən xəbərdarlıq: {count}',
      body: '{tenant} daxilində vaxtında təsdiqlənmədi və sizə ötürüldü:',
    },
    alert_cleared: { subject: '{tenant} xəbərdarlığı bitdi: {count}', body: '{tenant} daxilində bitənlər:' },
    invitation: {
      subject: '{tenant} sizi dəvət edir',
      body: '{tenant} sizin üçün hesab yaratdı. İstifadə etmək üçün yeddi gün ərzində parol seçin.',
      action: 'Dəvəti qəbul et',
    },
    password_reset: {
      subject: '{tenant} üçün yeni parol seçin',
      body: 'Kimsə {tenant} hesabınız üçün yeni parol istədi. Keçid bir dəfə, bir saat ərzində işləyir.',
      action: 'Yeni parol seç',
    },
    email_verification: {
      subject: '{tenant} üçün ünvanınızı təsdiqləyin',
      body: 'Bu ünvanın sizə məxsus olduğunu təsdiqləyin; {tenant} hesabınız onu istifadə edəcək.',
      action: 'Ünvanı təsdiqlə',
    },
    password_changed: {
      subject: '{tenant} parolunuz dəyişdi',
      body: '{tenant} hesabınızın parolu {time} vaxtında dəyişdi. Digər sessiyalar bağlandı.',
    },
    email_changed: { subject: '{tenant} ünvanınız dəyişdi', body: '{tenant} hesabınız {time} vaxtından başqa ünvan istifadə edir.' },
    new_device: {
      subject: '{tenant} hesabına yeni giriş',
      body: '{tenant} hesabınız {time} vaxtında yeni cihazdan istifadə olundu: {device}',
    },
    trial_ending: {
      subject: '{tenant} sınaq müddəti bitir',
      body: '{tenant} sınaq müddəti {time} tarixində bitir. Əvvəlcədən plan seçsəniz, heç nə dəyişməz.',
    },
    trial_ended: {
      subject: '{tenant} sınaq müddəti bitdi',
      body: '{tenant} sınaq müddəti {time} tarixində bitdi. Hər şey yerindədir və oxuna bilər; işə davam etmək üçün plan seçin.',
    },
    impersonation: {
      subject: 'Dəstək {tenant} daxilində işləyir',
      body: 'Dəstək komandamız {time} tarixinədək {tenant} daxilində {person} əvəzinə işləyir. Səbəb: {reason}. Görülən hər iş audit jurnalınızda qalır.',
    },
    mfa_changed: { subject: '{tenant} ikinci amiliniz dəyişdi', body: '{tenant} hesabınızın ikinci amilləri {time} vaxtında dəyişdi.' },
    sso_linked: {
      subject: '{provider} ilə giriş hesabınıza bağlandı',
      body: '{tenant} hesabınız {time} vaxtından {provider} ilə istifadə oluna bilər.',
    },
    sso_unlinked: {
      subject: '{provider} ilə giriş hesabınızdan silindi',
      body: '{tenant} hesabınız {time} vaxtından {provider} ilə artıq istifadə oluna bilməz.',
    },
    sso_suspended: {
      subject: '{provider} ilə giriş dayandırıldı',
      body: '{tenant} daxilində {provider} ayarları {time} vaxtında dəyişdi. Təsdiqləyənə qədər bu yolla giriş dayandırılıb: parolunuzla daxil olub hesabınızdakı bağlantını təsdiqləyin və ya administratorunuza müraciət edin.',
    },
    sso_provider_changed: {
      subject: '{tenant} vahid girişi dəyişdi',
      body: '{tenant} kimlik provayderi {provider} {time} vaxtında dəyişdi: {changes}.',
    },
  },
}
